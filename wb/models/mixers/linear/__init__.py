"""Attention that is linear in the tokens: kernels, features and codes in the place of the softmax."""
