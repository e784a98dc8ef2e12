"""The run folder: its name, lock, files and provenance."""
