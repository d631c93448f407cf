"""`birefnet remove`: `command` has its options, `plan` checks them, `run` does the work."""
