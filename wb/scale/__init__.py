"""Work that several processes share: averaged gradients, tokens spread among them, optimizer states of two devices."""
