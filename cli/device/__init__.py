"""`wb device`: devices elsewhere, by name."""
