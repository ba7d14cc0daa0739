"""What work and its configuration say of themselves to a command: options, plans, progress."""
