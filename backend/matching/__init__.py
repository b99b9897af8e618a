"""Which specialist suits a request in free words."""
