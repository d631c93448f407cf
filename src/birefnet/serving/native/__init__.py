"""The server's own routes."""

from birefnet.errors import require

require(__name__, "serve")
