"""Which architectures a search may visit."""
