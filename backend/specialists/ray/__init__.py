"""Specialists on other hosts, placed by Ray. Imported only where a cluster is configured."""
