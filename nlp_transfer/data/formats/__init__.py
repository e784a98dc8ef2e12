"""Readers of table files, one for each format; other packages register more."""
