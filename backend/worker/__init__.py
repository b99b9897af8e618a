"""What runs inside a specialist's process: its socket, its providers, its generations."""
