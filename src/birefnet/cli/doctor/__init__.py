"""`birefnet doctor`: `command` prints what `checks` finds."""
