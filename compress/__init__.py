"""Smaller models: pruning, depth, quantization, binarization, one room each."""
