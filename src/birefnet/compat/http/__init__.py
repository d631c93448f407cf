"""What the routes of several services share: reading bodies, describing them, keeping results."""
