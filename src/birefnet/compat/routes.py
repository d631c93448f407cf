"""The routes of other services."""

from __future__ import annotations

from birefnet.compat import openai
from birefnet.compat.fal import routes as fal
from birefnet.compat.http import files
from birefnet.compat.rembg import routes as rembg
from birefnet.compat.removebg import routes as removebg
from birefnet.serving.registry import Registry


def register_routes(registry: Registry) -> None:
    """Add them, in the order in which the OpenAPI document lists them."""
    for module in (files, rembg, fal, removebg, openai):
        module.register_routes(registry)
