"""Precision in the graph: which nodes hold the weights of a group, and their conversion to int8, int4 and less."""
