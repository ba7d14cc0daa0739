"""Depth: the effect of each sub-layer on a model's output, and the pass that drops the least useful ones."""
