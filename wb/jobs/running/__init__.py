"""Networks run by several processes."""
