"""The model card: its text, its metadata and its examples."""
