"""One module for each command, or for two that are alike; torch is imported when a command runs."""
