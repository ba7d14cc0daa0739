"""Networks with early exits as graphs, and what they take on real examples."""
