"""One `Trainer.train()`: arguments, batches, callbacks, checkpoints and signals."""
