"""One file a norm: of the channels of a token."""
