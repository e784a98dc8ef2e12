"""What is done with finished runs: compare them, evaluate again, repeat, draw a learning curve."""
