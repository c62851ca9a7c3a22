"""The nouns of the product, typed, without I/O."""
