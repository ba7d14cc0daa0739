"""From a model to an ONNX file whose numbers hold: graph, parity, timing, scoring."""
