"""Checks of checkpoint folders: which parts there are, and whether they belong together."""
