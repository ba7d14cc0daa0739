"""The fused weights: averages of the parents', and layer-wise fits to the parents' outputs."""
