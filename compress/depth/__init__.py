"""What each sub-layer of a model does to its output, and the pass that drops the least useful ones."""
