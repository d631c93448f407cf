"""Shared by the routes of several services: read bodies, describe them, keep results."""

from birefnet.errors import require

require(__name__, "serve")
