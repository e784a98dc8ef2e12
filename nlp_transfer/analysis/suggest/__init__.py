"""Chooses unlabelled texts that are worth a label."""
