"""fal.ai's BiRefNet: routes for its clients, answered at once or queued."""

from birefnet.errors import require

require(__name__, "serve")
