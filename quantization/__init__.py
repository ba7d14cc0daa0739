"""Fewer bits: quantization of trained models, hash attention, binary and ternary weights."""
