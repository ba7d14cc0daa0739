"""What is done to the output of an operator before it is added to the residual stream, one module each."""
