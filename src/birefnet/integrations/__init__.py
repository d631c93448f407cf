"""Where other programs meet this package; each module needs what it is named after."""
