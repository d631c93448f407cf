"""The command `birefnet`: parse, call, write."""
