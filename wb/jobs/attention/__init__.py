"""What attention looks at, and how that changes in training."""
