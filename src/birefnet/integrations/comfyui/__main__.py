"""`python -m birefnet.integrations.comfyui PATH`: put the folder into ComfyUI's `custom_nodes` that
makes it load these nodes."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from birefnet.errors import BiRefNetError

NAME = "comfyui-birefnet"


def source() -> Path:
    """The folder's original: in an installed package beside this file, else in the repository."""
    packed = Path(__file__).with_name("folder")
    return packed if packed.is_dir() else Path(__file__).parents[4] / "comfyui"


def install(custom_nodes: Path) -> Path:
    """Write the folder, or bring it up to date; returns it.

    Args:
        custom_nodes: ComfyUI's folder of that name, or ComfyUI's own folder.

    Raises:
        BiRefNetError: it is not there, or is something else.
    """
    folder = custom_nodes.expanduser()
    if (folder / "custom_nodes").is_dir():
        folder = folder / "custom_nodes"
    if not folder.is_dir() or folder.name != "custom_nodes":
        raise BiRefNetError(
            f"{custom_nodes} is not ComfyUI's folder custom_nodes; give the path of that folder"
        )
    target = folder / NAME
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source(), target, dirs_exist_ok=True, ignore=ignored)
    return target


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit status."""
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        print("usage: python -m birefnet.integrations.comfyui …/ComfyUI/custom_nodes")
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2
    try:
        print(f"installed in {install(Path(arguments[0]))}; start ComfyUI again")
    except BiRefNetError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
