"""Pruning any `nn.Module` along torch-pruning's dependency graph."""
