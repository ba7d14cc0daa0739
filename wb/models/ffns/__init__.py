"""One file a feed-forward; each is named by the `module` of its record."""
