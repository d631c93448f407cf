"""The commands of other tools."""

from __future__ import annotations

import typer

from birefnet.compat.rembg.command import rembg


def register(app: typer.Typer) -> None:
    """Add `birefnet rembg`."""
    app.add_typer(rembg, name="rembg", rich_help_panel=None)
