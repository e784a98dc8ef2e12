"""Context managers in which a model computes the same with less work."""
