"""Other people's interfaces: a folder or file for each, and the three calls by which they are used.

The server, the command and the ComfyUI nodes call these functions and know nothing else of this
package. `rembg` and `transparent_background` are also modules for Python. What each interface
promises was read from its own documentation, which its modules name at their top.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

    from birefnet.compat.comfyui_packs import Pack
    from birefnet.serving.registry import Registry


def register_commands(app: typer.Typer) -> None:
    """Add the commands of other tools."""
    from birefnet.compat.rembg import command

    command.register_command(app)


def register_routes(registry: Registry) -> None:
    """Add the routes of other services, in the order of the OpenAPI document."""
    from birefnet.compat import openai
    from birefnet.compat.fal import routes as fal
    from birefnet.compat.http import files
    from birefnet.compat.rembg import routes as rembg
    from birefnet.compat.removebg import routes as removebg

    for module in (files, rembg, fal, removebg, openai):
        module.register_routes(registry)


def node_packs() -> dict[str, Pack]:
    """Other packs' nodes for ComfyUI, by the name of the pack."""
    from birefnet.compat.comfyui_packs import PACKS

    return PACKS
