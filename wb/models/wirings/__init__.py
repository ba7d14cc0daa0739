"""Wirings, one module each: how mixers and feed-forwards read the residual stream and add to it."""
