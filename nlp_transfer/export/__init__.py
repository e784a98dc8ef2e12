"""The exported checkpoint, ONNX beside it, and the proof that both give the reported logits."""
