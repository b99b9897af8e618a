"""Pipelines: parsed text run stage by stage, kept, and saved under a name."""
