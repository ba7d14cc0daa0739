"""ONNX Runtime Web: the WebAssembly that browsers run, here in node."""
