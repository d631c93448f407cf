"""`birefnet reproduce`: `command` runs what `paper` lists."""
