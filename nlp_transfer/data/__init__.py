"""Reads labelled texts and cuts them into splits."""
