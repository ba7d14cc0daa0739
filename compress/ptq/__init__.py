"""Post-training quantization of ONNX graphs: calibration, sensitivity, and policies that give each group a precision."""
