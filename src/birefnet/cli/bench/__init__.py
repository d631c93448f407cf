"""`birefnet bench`: `command` has its options, `run` measures, each cell in a process of `cell`."""
