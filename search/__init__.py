"""Supernet training, the study, the sampler, the run folder and its report."""
