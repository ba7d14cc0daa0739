"""Tasks: what the outputs of a network mean, how it learns them, and how good they are."""
