"""The commands: `nlp-transfer …` and `python -m nlp_transfer.train`."""
