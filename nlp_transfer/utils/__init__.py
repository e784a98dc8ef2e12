"""Processes and devices, logging, content-addressed caches, hashing, files."""
