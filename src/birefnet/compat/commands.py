"""The commands of other tools."""

from __future__ import annotations

import typer

from birefnet.compat.rembg import command as rembg


def register(app: typer.Typer) -> None:
    """Add `birefnet rembg`."""
    rembg.register_command(app)
