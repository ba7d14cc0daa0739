"""Parameters and multiply-accumulates, counted on the ONNX graph."""
