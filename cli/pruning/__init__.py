"""`wb prune`: one file per method."""
