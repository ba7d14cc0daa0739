"""One file a kind of position: what tells tokens apart by their place; each is named by the `module` of its record."""
