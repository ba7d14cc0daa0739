"""A model said in the words of another library, checked by reading them again."""
