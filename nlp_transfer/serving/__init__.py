"""Answers over HTTP, with requests batched together."""
