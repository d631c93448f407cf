"""remove.bg's API and CarveKit's: routes for their clients."""
