"""Stores the output of frozen layers and solves heads on it."""
