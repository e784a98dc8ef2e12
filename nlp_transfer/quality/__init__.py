"""Checks the data before training and lists probable label errors after it."""
