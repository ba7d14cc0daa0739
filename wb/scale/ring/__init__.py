"""Attention over tokens that several processes hold: keys and values travel on a ring, sums are added up."""
