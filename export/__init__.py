"""Export of models to ONNX graphs, with checks of parity, timing and scoring on the exported file."""
