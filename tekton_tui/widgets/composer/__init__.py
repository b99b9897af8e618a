"""The text field in which the operator writes, and how its text is read."""
