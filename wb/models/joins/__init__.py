"""How the output of an operator is joined to the residual stream, one module each."""
