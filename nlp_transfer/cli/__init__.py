"""The command line: `nlp-transfer …` and `python -m nlp_transfer.train`."""
