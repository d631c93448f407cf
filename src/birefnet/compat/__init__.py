"""Other people's interfaces: a folder or file for each, and what adds them to ours.

`commands`, `routes` and `comfyui_packs` list what the command, the server and the ComfyUI nodes
take from here; these know nothing else of this package. `rembg` and `transparent_background` are
also modules for Python. What each interface promises was read from its own documentation, which
its modules name at their top.
"""
