"""What studies ask of networks: distances, coders, scores, statistics."""
