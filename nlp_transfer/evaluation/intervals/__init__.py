"""Intervals of metrics and of their differences, from resampled rows."""
