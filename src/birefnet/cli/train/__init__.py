"""`birefnet train`: `command` has its options, `run` does the work."""
