"""`wb search`, from nothing and from a trained model."""
