"""Distances: look up, or else claim, code and keep; of two models or of many."""
