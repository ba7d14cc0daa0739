"""The fused weights: averages, fitted layer by layer to what the parents compute."""
