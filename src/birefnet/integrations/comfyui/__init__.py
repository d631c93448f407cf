"""Nodes for ComfyUI: this package's own, and those that saved workflows of other packs name.

ComfyUI is not a dependency; `host` reaches it, and everything that it lacks has a sensible
stand-in. `python -m birefnet.integrations.comfyui …/custom_nodes` puts the folder there that
ComfyUI loads.
"""
