"""What a stage minimises: batches, losses on embeddings or pairs, weights of classes and scores."""
