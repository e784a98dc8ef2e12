"""Runs the stages of a strategy, each as one `Trainer.train()`."""
