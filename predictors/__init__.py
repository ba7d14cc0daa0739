"""Predictors that learn accuracy and latency from few true evaluations."""
