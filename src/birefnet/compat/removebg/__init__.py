"""remove.bg's API and CarveKit's: routes for their clients."""

from birefnet.errors import require

require(__name__, "serve")
