"""The configuration: dataclasses, loading and validation."""
