"""Turns: one question to one specialist, from its context to its stored answer."""
