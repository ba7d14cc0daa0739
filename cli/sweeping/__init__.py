"""`wb sweep` trains and measures networks of several shapes: a file for every question."""
