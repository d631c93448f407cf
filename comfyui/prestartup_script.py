"""ComfyUI runs this before any nodes are loaded: other packs may have a module `birefnet` too."""

from pathlib import Path

from birefnet.integrations.comfyui.neighbours import share_name

share_name([Path(__file__).resolve().parent.parent])
