"""`nlp-transfer estimate`: minutes, memory and disk of every strategy, before one is trained."""
