"""ONNX files of others: opened within limits, tried out in a process of their own."""
