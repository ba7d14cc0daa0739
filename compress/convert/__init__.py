"""Another mixer, or another norm, in a trained model: replaced, taught, and fine-tuned."""
