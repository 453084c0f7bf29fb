"""Models made elsewhere, as networks of the toolkit."""
