"""Atlases: what is needed to compare with models that are not at hand, one file for each."""
