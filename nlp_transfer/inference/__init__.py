"""Answers texts and tables from an exported folder, by torch or ONNX."""
