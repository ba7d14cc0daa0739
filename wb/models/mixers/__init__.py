"""One file a mixer; each is named by the `module` of its record."""
