"""One file a family of networks: how it is recognised, which architecture it is, and which of its tensors are which of ours."""
