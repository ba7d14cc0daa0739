"""Commands that make a model or a graph."""
