"""What distances say: maps, trees, families, ensembles."""
