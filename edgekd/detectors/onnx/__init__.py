"""Teachers that are ONNX files, of whatever detector."""
