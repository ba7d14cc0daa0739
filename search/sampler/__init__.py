"""The samplers: guided by predictors, with NSGA-II inside."""
