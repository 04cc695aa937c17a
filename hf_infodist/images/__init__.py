"""Images: from the name of a dataset to an ordered sample."""
