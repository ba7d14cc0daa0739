"""`wb analyze` looks into a trained model: a file for every question."""
