"""Measurements: one file per claim, its figures beside it."""
