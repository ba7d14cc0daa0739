"""The beginning of a search: its configuration, recipes, data and budget."""
