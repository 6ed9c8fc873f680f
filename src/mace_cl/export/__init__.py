"""Models out again: ONNX with its manifest, MACE's own files."""
