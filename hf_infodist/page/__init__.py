"""The page: compare two models by name in a browser. Needs the extra ``show``."""
