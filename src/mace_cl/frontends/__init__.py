"""Source formats to canonical ONNX graphs; one file a format."""
