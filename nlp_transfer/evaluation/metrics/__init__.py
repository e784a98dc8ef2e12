"""The metrics of every kind of label; each module registers its own."""
