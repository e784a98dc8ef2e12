"""The Hydra configuration groups, shipped as `nlp_transfer.conf`."""
