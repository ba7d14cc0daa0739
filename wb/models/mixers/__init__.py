"""Mixers by family, one module each; a record names its module in `module`."""
