"""Fitting, distilling and evaluating one network."""
