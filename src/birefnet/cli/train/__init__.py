"""`birefnet train`: `command` has its options, `plan` prepares a run, `run` does it."""
