"""Model files and other files of tensors: reading and writing them."""
