"""Ranks checkpoints for a task before any of them is trained."""
