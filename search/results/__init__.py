"""What a run folder holds beside `run.json` and `front.json`: answers on the test split, losses of training, known networks."""
