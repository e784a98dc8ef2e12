"""The commands beside `train`; each imports what it needs when it runs."""
