"""The kinds of labels."""
