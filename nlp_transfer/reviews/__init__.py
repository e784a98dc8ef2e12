"""The embedded reviews, shipped as package data."""
