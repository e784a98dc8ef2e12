"""The exported checkpoint, ONNX beside it, and the check that both give the reported logits."""
