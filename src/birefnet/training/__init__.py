"""Training: data, losses, objective, loop and recipes."""
