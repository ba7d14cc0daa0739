"""What operators are made of: their base, projections, convolutions, squares, planes."""
