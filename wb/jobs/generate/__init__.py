"""What a network that foresees tokens says, token by token."""
