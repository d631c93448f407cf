"""`python -m birefnet.integrations.comfyui PATH`: install the nodes into ComfyUI."""

from __future__ import annotations

import sys
from pathlib import Path

from birefnet.errors import BiRefNetError
from birefnet.integrations.comfyui.install import install


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
