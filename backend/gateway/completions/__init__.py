"""Conversations that callers keep themselves, answered in the words of any vendor's API: one core under all dialects.

A dialect reads a body into an `Asked` and has a `Writer` for the answer; everything between is here.
"""
