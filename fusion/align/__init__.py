"""Maps between the axes of matched models: rotations and permutations."""
