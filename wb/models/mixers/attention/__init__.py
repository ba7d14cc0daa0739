"""Attention whose weights are a softmax over scores, of all tokens or of those in squares."""
