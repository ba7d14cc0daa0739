"""Stems, one module each: from the input to tokens; a record names its module in `module`."""
