"""Results on disk: codelengths, distances, matrices; read without torch."""
