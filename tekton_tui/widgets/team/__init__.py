"""The widgets of a team turn and of a pipeline run."""
