"""Checkpoints of other libraries: what they hold is recognised, becomes a model of ours, and is handed back as it came."""
