"""A network as one file of plain PyTorch: what its modules do is recorded, and written as functions of tensors."""
