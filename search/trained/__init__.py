"""`wb search --from MODEL`: a search that starts from a trained model, without a supernet."""
