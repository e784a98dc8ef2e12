"""A strategy as a list of stages: which layers learn, how fast, for how long."""
