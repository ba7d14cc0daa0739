"""Training of a supernet by several processes, which torchrun starts."""
