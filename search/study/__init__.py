"""The Optuna study: storage, trials, seed architectures, workers."""
