"""What a processor for networks that is not here would make of a network, in floating point and in fewer bits."""
