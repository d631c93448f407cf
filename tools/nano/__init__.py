"""How the bundled model was made: outside of what is installed."""
