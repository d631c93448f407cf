"""fal.ai's BiRefNet: routes for its clients, answered at once or queued."""
