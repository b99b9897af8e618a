"""The session store in one SQLite file of the home."""
