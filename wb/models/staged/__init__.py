"""Networks of which each process has some blocks, or some heads and hidden units of them."""
