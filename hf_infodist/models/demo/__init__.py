"""Two tiny real classifiers, trained on scikit-learn's digits, that travel inside the package and need no network."""
