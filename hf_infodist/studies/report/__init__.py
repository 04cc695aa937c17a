"""How studies show what they have found: options, JSON, pictures."""
