"""Forms of a model with the same function: the canonical form, and the form with another architecture's sizes."""
