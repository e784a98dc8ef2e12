"""Loads a pretrained encoder, finds its layers, and plans which of them learn."""
