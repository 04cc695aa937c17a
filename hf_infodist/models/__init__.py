"""Models: from a name to a classifier, out of three libraries."""
