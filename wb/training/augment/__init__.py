"""Augmentations of batches in torch: every image has draws of its own, all of them from one generator on the CPU."""
