"""Tasks: what the outputs of a network mean, which loss trains them, and which metric judges them."""
