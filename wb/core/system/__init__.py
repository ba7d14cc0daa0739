"""The machine around: files, pickles, durations, silence, provenance."""
