"""The widgets of one conversation."""
