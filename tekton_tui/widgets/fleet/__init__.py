"""The status grid and its detail pane."""
