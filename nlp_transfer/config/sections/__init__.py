"""The sections of the configuration: one dataclass each, with every default and its meaning."""
