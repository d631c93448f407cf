"""A small ComfyUI: the parts of its Python interface that nodes meet, and an executor of workflows.

Both forms of saved workflows run: the one for programs (id → class_type and inputs), and the one of
the page (nodes with links, and the values of widgets by their place). Inputs are checked as
ComfyUI's server does before it runs anything.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN")
Prompt = dict[str, dict[str, Any]]


class StoppedError(Exception):
    """ComfyUI's `InterruptProcessingException`."""


class RefusedError(Exception):
    """What the server answers to a prompt that does not fit its nodes."""


class ComfyUI:
    """One installation in a folder, with its modules in `sys.modules` between start and stop."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("models", "input", "custom_nodes"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self.saved: list[torch.Tensor] = []
        self.bars: list[Bar] = []
        self.stop_after: int | None = None
        self.checks = 0
        self.freed: list[tuple[int, str]] = []
        self.unloaded = 0
        self.half = True
        self.device = "cpu"
        self.modules = self._modules()

    def _modules(self) -> dict[str, ModuleType]:
        paths = ModuleType("folder_paths")
        paths.models_dir = str(self.root / "models")
        paths.folder_names_and_paths = {
            "checkpoints": ([str(self.root / "models" / "checkpoints")], {".safetensors"}),
            "custom_nodes": ([str(self.root / "custom_nodes")], set()),
        }

        def add(name: str, path: str) -> None:
            paths.folder_names_and_paths.setdefault(name, ([], set()))[0].append(path)

        paths.add_model_folder_path = add
        nodes = ModuleType("nodes")
        nodes.NODE_CLASS_MAPPINGS = dict(core_nodes(self))
        nodes.NODE_DISPLAY_NAME_MAPPINGS = {}
        comfy, utils = ModuleType("comfy"), ModuleType("comfy.utils")
        management = ModuleType("comfy.model_management")

        def bar(total: int) -> Bar:
            self.bars.append(Bar(total))
            return self.bars[-1]

        utils.ProgressBar = bar
        management.get_torch_device = lambda: torch.device(self.device)
        management.should_use_fp16 = lambda device: self.half
        management.throw_exception_if_processing_interrupted = self._check
        management.free_memory = lambda size, device: self.freed.append((size, str(device)))
        management.unload_all_models = self._unload
        management.soft_empty_cache = lambda: None
        comfy.utils, comfy.model_management = utils, management
        return {
            "folder_paths": paths,
            "nodes": nodes,
            "comfy": comfy,
            "comfy.utils": utils,
            "comfy.model_management": management,
        }

    @property
    def nodes(self) -> dict[str, Any]:
        return self.modules["nodes"].NODE_CLASS_MAPPINGS

    def _check(self) -> None:
        self.checks += 1
        if self.stop_after is not None and self.checks > self.stop_after:
            raise StoppedError

    def _unload(self) -> None:
        self.unloaded += 1

    def load_custom_nodes(self) -> None:
        """As ComfyUI starts: all scripts first, then all packs; names of its own are kept."""
        packs = [p for p in sorted((self.root / "custom_nodes").iterdir()) if p.is_dir()]
        for script in (p / "prestartup_script.py" for p in packs):
            if script.exists():
                run_file(str(script.with_suffix("")), script)
        own = set(self.nodes)
        for pack in packs:
            module = run_file(str(pack).replace(".", "_x_"), pack / "__init__.py", [str(pack)])
            for name, node in module.NODE_CLASS_MAPPINGS.items():
                if name not in own:
                    self.nodes[name] = node

    def picture(self, name: str, pixels: np.ndarray) -> None:
        Image.fromarray(pixels).save(self.root / "input" / name)

    def run(self, workflow: Any) -> dict[str, tuple[Any, ...]]:
        """Outputs of every node of a workflow of either form."""
        prompt = to_prompt(workflow, self.nodes) if "nodes" in workflow else workflow
        for name, node in prompt.items():
            self._validate(name, node, prompt)
        done: dict[str, tuple[Any, ...]] = {}
        for name in prompt:
            self._execute(name, prompt, done)
        return done

    def _validate(self, name: str, node: dict[str, Any], prompt: Prompt) -> None:
        kind = node["class_type"]
        if kind not in self.nodes:
            raise RefusedError(f"{name}: there is no node {kind}")
        declared = self.nodes[kind].INPUT_TYPES()
        check = getattr(self.nodes[kind], "VALIDATE_INPUTS", None)
        own = set(inspect.signature(check).parameters) if check else set()
        if check and check(**{key: node["inputs"][key] for key in own}) is not True:
            raise RefusedError(f"{name}: {kind} refuses {own}")
        for section in ("required", "optional"):
            for key, spec in declared.get(section, {}).items():
                if key not in node["inputs"]:
                    if section == "required":
                        raise RefusedError(f"{name}: {kind} lacks {key}")
                    continue
                if key in own:  # as ComfyUI: the node looks at these instead
                    continue
                node["inputs"][key] = self._checked(key, node["inputs"][key], spec, prompt)

    def _checked(self, key: str, value: Any, spec: tuple[Any, ...], prompt: Prompt) -> Any:
        wanted = spec[0]
        limits = spec[1] if len(spec) > 1 else {}
        if isinstance(value, list):
            giver = self.nodes[prompt[value[0]]["class_type"]]
            given = giver.RETURN_TYPES[value[1]]
            if given != wanted and not (isinstance(wanted, list) and given == "COMBO"):
                raise RefusedError(f"{key} wants {wanted} and gets {given}")
            return value
        if isinstance(wanted, list):
            if value not in wanted:
                raise RefusedError(f"{key}: {value!r} is not in {wanted}")
            return value
        if wanted not in WIDGETS:
            raise RefusedError(f"{key} wants a wire of {wanted}")
        convert: Callable[[Any], Any] = dict(zip(WIDGETS, (int, float, str, bool), strict=True))[
            wanted
        ]
        value = convert(value)
        if "min" in limits and not limits["min"] <= value <= limits["max"]:
            raise RefusedError(f"{key}: {value} is not within {limits['min']} and {limits['max']}")
        return value

    def _execute(self, name: str, prompt: Prompt, done: dict[str, tuple[Any, ...]]) -> Any:
        """A node's outputs; it runs once for each item of a list that another node gave."""
        if name in done:
            return done[name]
        node = self.nodes[prompt[name]["class_type"]]
        declared = node.INPUT_TYPES()
        known = {**declared.get("required", {}), **declared.get("optional", {})}
        inputs: dict[str, Any] = {}
        listed: dict[str, list[Any]] = {}
        for key, value in prompt[name]["inputs"].items():
            if key not in known:
                continue
            if not isinstance(value, list):
                inputs[key] = value
                continue
            given = self._execute(value[0], prompt, done)[value[1]]
            (listed if isinstance(given, list) else inputs)[key] = given
        count = max((len(items) for items in listed.values()), default=1)
        results = []
        for index in range(count):
            own = {key: items[min(index, len(items) - 1)] for key, items in listed.items()}
            result = getattr(node(), node.FUNCTION)(**inputs, **own)
            results.append(tuple(result) if result is not None else ())
            assert len(results[-1]) == len(node.RETURN_TYPES)
        is_list = getattr(node, "OUTPUT_IS_LIST", [False] * len(node.RETURN_TYPES))
        for slot, wanted in enumerate(is_list):
            assert isinstance(results[0][slot], list) == wanted
        done[name] = tuple(map(list, zip(*results, strict=True))) if listed else results[0]
        return done[name]


class Bar:
    def __init__(self, total: int) -> None:
        self.total = total
        self.value = 0

    def update(self, steps: int) -> None:
        self.value += steps


def run_file(name: str, path: Path, places: list[str] | None = None) -> Any:
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=places)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


def to_prompt(workflow: dict[str, Any], known: dict[str, Any]) -> Prompt:
    """The page's form → the form for programs, as ComfyUI's page does before it sends it."""
    givers = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt: Prompt = {}
    for node in workflow["nodes"]:
        if node["type"] == "Note":
            continue
        if node["type"] not in known:
            raise RefusedError(f"{node['id']}: there is no node {node['type']}")
        values = list(node.get("widgets_values") or [])
        declared = known[node["type"]].INPUT_TYPES()
        inputs: dict[str, Any] = {}
        for section in ("required", "optional"):
            for key, spec in declared.get(section, {}).items():
                if not isinstance(spec[0], list) and spec[0] not in WIDGETS:
                    continue
                if values:
                    inputs[key] = values.pop(0)
                if len(spec) > 1 and spec[1].get("image_upload") and values:
                    values.pop(0)  # the upload button has a value too
        for slot in node.get("inputs", []):
            if slot.get("link") is not None:
                inputs[slot["name"]] = givers[slot["link"]]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def core_nodes(comfyui: ComfyUI) -> dict[str, Any]:
    """The few nodes of ComfyUI's own that workflows of this kind have."""

    class LoadImage:
        RETURN_TYPES = ("IMAGE", "MASK")
        FUNCTION = "load"

        @classmethod
        def INPUT_TYPES(cls):
            files = sorted(os.listdir(comfyui.root / "input"))
            return {"required": {"image": (files, {"image_upload": True})}}

        def load(self, image):
            picture = ImageOps.exif_transpose(Image.open(comfyui.root / "input" / image))
            rgb = np.asarray(picture.convert("RGB"), np.float32) / 255
            mask = torch.zeros(1, 64, 64)
            if "A" in picture.getbands():
                alpha = np.asarray(picture.getchannel("A"), np.float32) / 255
                mask = 1 - torch.from_numpy(alpha)[None]
            return torch.from_numpy(rgb)[None], mask

    class RepeatImageBatch:
        RETURN_TYPES = ("IMAGE",)
        FUNCTION = "repeat"

        @classmethod
        def INPUT_TYPES(cls):
            return {
                "required": {
                    "image": ("IMAGE",),
                    "amount": ("INT", {"default": 1, "min": 1, "max": 4096}),
                }
            }

        def repeat(self, image, amount):
            return (image.repeat(amount, 1, 1, 1),)

    class InvertMask:
        RETURN_TYPES = ("MASK",)
        FUNCTION = "invert"

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"mask": ("MASK",)}}

        def invert(self, mask):
            return (1 - mask,)

    class MaskToImage:
        RETURN_TYPES = ("IMAGE",)
        FUNCTION = "convert"

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"mask": ("MASK",)}}

        def convert(self, mask):
            return (mask.reshape(-1, 1, *mask.shape[-2:]).movedim(1, -1).expand(-1, -1, -1, 3),)

    class JoinImageWithAlpha:
        RETURN_TYPES = ("IMAGE",)
        FUNCTION = "join"

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"image": ("IMAGE",), "alpha": ("MASK",)}}

        def join(self, image, alpha):
            return (torch.cat([image[..., :3], 1 - alpha[..., None]], dim=-1),)

    class PreviewImage:
        RETURN_TYPES = ()
        FUNCTION = "save"
        OUTPUT_NODE = True

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"images": ("IMAGE",)}}

        def save(self, images):
            comfyui.saved.append(images)

    class SaveImage(PreviewImage):
        @classmethod
        def INPUT_TYPES(cls):
            return {
                "required": {
                    "images": ("IMAGE",),
                    "filename_prefix": ("STRING", {"default": "ComfyUI"}),
                }
            }

        def save(self, images, filename_prefix):
            comfyui.saved.append(images)

    found = (
        LoadImage,
        RepeatImageBatch,
        InvertMask,
        MaskToImage,
        JoinImageWithAlpha,
        PreviewImage,
        SaveImage,
    )
    return {node.__name__: node for node in found}
