"""Networks on processors that are not here: what a vendor's compiler takes of a graph, and what its simulator computes."""
