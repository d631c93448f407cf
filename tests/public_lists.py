"""What users rely on by name, as lists that compare well: a function for each kind.

`tests/test_public_names.py` holds them against `tests/reference/KIND.txt`, and writes these anew.
A line is one name with what belongs to it. Where the order is a promise (inputs of ComfyUI's nodes,
controls of the page), lines are in that order.
"""

from __future__ import annotations

import ast
import base64
import importlib
import inspect
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints
from unittest.mock import patch

from birefnet.imaging.geometry import Preprocess
from birefnet.inference.predictor import Predictor
from fakes import PLAIN, BrightEngine, write_animation, write_disc

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/birefnet"


# Names of Python


def promised() -> list[str]:
    """The dotted names on the reference pages."""
    pages = sorted((ROOT / "docs/reference").glob("*.md"))
    return [name for page in pages for name in re.findall(r"^::: (\S+)", page.read_text(), re.M)]


def public_names() -> Iterator[str]:
    """Every name of the reference pages with its parameters."""
    yield from sorted({line for name in promised() for line in _of_python(name)})


def look_up(name: str) -> Any:
    """The module or what a module holds."""
    module, found = name, []
    while True:
        try:
            value: Any = importlib.import_module(module)
            break
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            module, _, last = module.rpartition(".")
            found.insert(0, last)
    for part in found:
        value = getattr(value, part)
    return value


def _of_python(name: str) -> Iterator[str]:
    """A line for a function, several for a class or a module."""
    value = look_up(name)
    if inspect.ismodule(value):
        for inner in _public(value):
            yield from _of_python(f"{name}.{inner}")
    elif inspect.isclass(value):
        yield f"{name}{_parameters(value)}"
        for inner, member in sorted(vars(value).items()):
            if inner.startswith("_"):
                continue
            if isinstance(member, property):
                yield f"{name}.{inner}"
            elif isinstance(member, classmethod | staticmethod) or inspect.isfunction(member):
                yield f"{name}.{inner}{_parameters(getattr(value, inner))}"
    elif callable(value):
        yield f"{name}{_parameters(value)}"
    else:
        yield name


def _public(module: Any) -> list[str]:
    """What a module names in `__all__`, else what is made in it and has no `_`."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    )


def _parameters(value: Any) -> str:
    """Names, kinds and whether there is a default; not types, which Pythons write differently."""
    if inspect.isclass(value) and not str(getattr(value.__init__, "__module__", "")).startswith(
        "birefnet"
    ):
        return ""  # that of a class of Python or PyTorch
    signature = inspect.signature(value)
    parts, named = [], False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not named:
            named = True
            parts.append("*")
        sign = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        named |= parameter.kind is parameter.VAR_POSITIONAL
        default = "" if parameter.default is parameter.empty else "="
        parts.append(f"{sign}{parameter.name}{default}")
    return f"({', '.join(parts)})"


# The command


def command_options() -> Iterator[str]:
    """Commands with their arguments, options, types and defaults."""
    import typer

    from birefnet.cli.main import app

    def walk(name: str, command: Any) -> Iterator[str]:
        hints = get_type_hints(command.callback, include_extras=True) if command.callback else {}
        for parameter in command.params:
            hint = hints.get(parameter.name, bool)  # typer's own are flags
            yield f"{name} {_option(parameter, hint)}"
        for inner, child in getattr(command, "commands", {}).items():
            yield from walk(f"{name} {inner}", child)

    yield from walk("birefnet", typer.main.get_command(app))


def _option(parameter: Any, hint: Any) -> str:
    """Types and ranges as the function declares them: typer keeps its own in varying places."""
    kind, *extras = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    flags = [", ".join(names) for names in (parameter.opts, parameter.secondary_opts) if names]
    words = [" / ".join(flags), re.sub(r"<class '([\w.]+)'>", r"\1", str(kind)), "="]
    default = parameter.default() if callable(parameter.default) else parameter.default
    words.append("(required)" if parameter.required else repr(default))
    for extra in extras:
        low, high = getattr(extra, "min", None), getattr(extra, "max", None)
        if (low, high) != (None, None):
            words.append(f"from {low} to {high}")
    if parameter.envvar:
        words.append(f"${parameter.envvar}")
    return " ".join(words)


# What the command writes


def json_keys() -> Iterator[str]:
    """Keys of manifests and of `--json`, with the kinds of their values."""
    from typer.testing import CliRunner

    from birefnet.cli.main import app
    from birefnet.network.build import build_network
    from birefnet.weights.save import save_directory
    from data_sets import make_pairs

    found: set[str] = set()

    with tempfile.TemporaryDirectory() as place, _bright(), patch.dict(os.environ):
        folder = Path(place)
        os.environ["BIREFNET_CACHE"] = os.environ["HF_HOME"] = str(folder / "cache")

        def run(*words: object) -> str:
            return str(CliRunner().invoke(app, [str(word) for word in words]).stdout)

        def report(title: str, *words: object) -> None:
            found.update(_keys(json.loads(run(*words)), title))

        def remove(title: str, source: Path, *options: object) -> None:
            out = folder / "out" / title.replace(" ", "-")
            report(f"remove {title}", "remove", source, "-o", out, "--json", *options)
            for line in (out / "manifest.jsonl").read_text().splitlines():
                entry = json.loads(line)
                found.update(_keys(entry, f"manifest {title} {entry['status']}"))
            for index in sorted(out.rglob("*.json"))[:1]:
                found.update(_keys(json.loads(index.read_text()), f"NAME{index.suffix}"))

        shop = folder / "shop"
        for name in ("a.png", "deep/b.png"):
            write_disc(shop / name)
        (shop / "broken.png").write_bytes(b"\x89PNG no more")
        remove("pictures", shop, "--crop", "--retries", 0)
        remove("objects", shop, "--crop", "--objects")
        moving = folder / "moving"
        moving.mkdir()
        write_animation(moving / "cat.gif")
        remove("animations", moving)
        report("models list", "models", "list", "--json")
        for name in ("nano", "general"):
            report(f"models info {name}", "models", "info", name, "--json")
        pairs = make_pairs(folder / "pairs", 3)
        report("data check", "data", "check", pairs, "--smallest", 99, "--jobs", 1, "--json")
        sets = ("--prediction", pairs / "gt", "--truth", pairs / "gt", "--jobs", 1)
        report("evaluate", "evaluate", *sets, "--metrics", "mae", "--format", "json")
        report("video", "video", moving / "cat.gif", "-o", folder / "cat.webp", "--json")
        tiny = save_directory(folder / "tiny", build_network("tiny").eval(), Preprocess(64, 64))
        report("export", "export", tiny, "-o", folder / "tiny.xml", "--json")
        drawn = ("-o", folder / "drawn.png", "--no-field", "--json")
        report("explain", "explain", shop / "a.png", "-m", tiny, *drawn)
    yield from sorted(found)


def _keys(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _keys(inner, f"{path} .{key}" if " ." not in path else f"{path}.{key}")
    elif isinstance(value, list):
        yield from (line for inner in value or [None] for line in _keys(inner, f"{path}[]"))
    else:
        names = {bool: "yes or no", int: "number", float: "number", str: "text"}
        yield f"{path}: {names.get(type(value), 'nothing')}"


@contextmanager
def _bright() -> Iterator[None]:
    """What is bright is the subject, in place of a trained network."""
    fake = lambda *_, **__: Predictor(BrightEngine(), PLAIN, name="bright")  # noqa: E731
    with patch("birefnet.api.load", fake):
        yield


# The server and its page


def routes() -> Iterator[str]:
    """Methods, paths and fields of what the server takes and answers."""
    from birefnet.serving.settings import ServerSettings
    from compat_client import disc_file, serving

    with serving(ServerSettings(page=False)) as client:
        document = client.app.openapi()
        lines: dict[str, dict[str, None]] = {}  # and where each field stands

        def add(line: str, *where: str) -> None:
            lines.setdefault(line, {}).update(dict.fromkeys(where))

        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                name = f"{method.upper()} {path}"
                add(name)
                for parameter in operation.get("parameters", ()):
                    text = _field(parameter["schema"], document)
                    add(f"{name} takes {parameter['name']}: {text}", parameter["in"])
                for kind, body in operation.get("requestBody", {}).get("content", {}).items():
                    for field, text in _fields(body.get("schema", {}), document):
                        add(f"{name} takes {field}: {text}", kind.rpartition("/")[2])
                for status, answer in operation["responses"].items():
                    for kind, body in answer.get("content", {}).items():
                        for field, text in _fields(body.get("schema", {}), document):
                            add(f"{name} answers {field}: {text}", f"{status} {kind}")
        for route in client.app.routes:
            for method in sorted(getattr(route, "methods", None) or ()):
                if method != "HEAD" and f"{method} {route.path}" not in lines:
                    add(f"{method} {route.path} (not in the document)")
        for line, where in lines.items():
            yield f"{line}  [{', '.join(where)}]" if where else line

        uri = f"data:image/png;base64,{base64.b64encode(disc_file()).decode()}"
        asked: dict[str, Any] = {
            "POST /v1/remove": {"image": uri, "answer": "json", "objects": True, "crop": True},
            "POST /v1/images/edits": {"image": uri, "prompt": "-"},
            "POST /v1.0/removebg": {"image_file_b64": uri},
            "POST /fal-ai/birefnet/v2": {"image_url": uri, "output_mask": True},
        }
        for path in ("/health", "/ready", "/v1/models", "/v1.0/account"):
            asked[f"GET {path}"] = None
        for name, body in asked.items():
            method, path = name.split()
            answer = client.request(method, path, json=body, headers={"accept": "application/json"})
            for line in sorted(set(_keys(answer.json(), ""))):
                yield f"{name} answered {answer.status_code} {line.strip()}"


def _fields(schema: dict[str, Any], document: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names of the fields of a body, and what they hold."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "properties" not in schema:
        yield prefix or "the body", _field(schema, document)
        return
    for name, field in schema["properties"].items():
        inner = f"{prefix}.{name}".lstrip(".")
        if field.get("properties"):
            yield from _fields(field, document, inner)
        else:
            star = "" if name in schema.get("required", ()) else "?"
            yield inner + star, _field(field, document)


def _field(schema: dict[str, Any], document: Any) -> str:
    """The kinds of value that are taken, and the one that stands where none is given."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    forms = schema.get("anyOf") or schema.get("allOf") or schema.get("oneOf") or [schema]
    kinds = {str(form.get("type", form.get("$ref", "anything"))) for form in forms}
    words = ["|".join(sorted(kinds))]
    if choices := schema.get("enum"):
        words.append("|".join(map(str, choices)))
    if "default" in schema:
        words.append(f"= {schema['default']!r}")
    return " ".join(words)


def page_inputs() -> Iterator[str]:
    """Controls of the page in their order, with what they offer and begin with."""
    from birefnet.serving.page.layout import build_page
    from birefnet.serving.service import Service
    from birefnet.serving.settings import ServerSettings

    service = Service(ServerSettings(), Predictor(BrightEngine(), PLAIN, name="bright"))
    for block in build_page(service).blocks.values():
        kind, name = type(block).__name__, getattr(block, "elem_id", None)
        label = getattr(block, "value" if kind == "Button" else "label", None)
        if not name and not label:
            continue
        words = [kind, f"#{name}" if name else "-", repr(label) if label else "-"]
        if choices := getattr(block, "choices", None):
            words.append("|".join(str(value) for _, value in choices))
        if hasattr(block, "minimum"):
            words.append(f"{block.minimum}..{block.maximum} by {block.step}")
        value = getattr(block, "value", None)
        if kind not in ("Button", "HTML") and isinstance(value, str | int | float):
            words.append(f"= {value!r}")
        yield " ".join(words)


# ComfyUI


def comfyui_nodes() -> Iterator[str]:
    """Nodes with their inputs and outputs in order, as saved workflows rely on them."""
    from birefnet.integrations.comfyui import host, models, register

    with patch.dict(os.environ), patch.object(host, "cuda_devices", list):
        os.environ.pop("BIREFNET_MODEL", None)
        known = models.names()
        classes, titles = register.mappings("always")
        for name, node in classes.items():
            yield f"{name} {titles[name]!r} in {node.CATEGORY}"
            for section, inputs in node.INPUT_TYPES().items():
                for key, (kind, *settings) in inputs.items():
                    yield f"{name} {section} {key}: {_widget(kind, dict(*settings), known)}"
            lists = getattr(node, "OUTPUT_IS_LIST", (False,) * len(node.RETURN_TYPES))
            for kind, key, several in zip(node.RETURN_TYPES, node.RETURN_NAMES, lists, strict=True):
                yield f"{name} gives {key}: {kind}{' list' * several}"


def _widget(kind: Any, settings: dict[str, Any], models: list[str]) -> str:
    offered = kind if isinstance(kind, str) else "|".join(kind)
    words = ["the models" if kind == models else offered]
    if "min" in settings:
        words.append(f"{settings['min']}..{settings['max']}")
    if "step" in settings:
        words.append(f"by {settings['step']}")
    if "default" in settings:
        words.append(f"= {settings['default']!r}")
    return " ".join(words)


# Settings and files


def environment_variables() -> Iterator[str]:
    """The variables of the environment that are read or set."""
    texts = (path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    with_any = (text for text in texts if re.search("environ|BIREFNET_|HF_", text))
    found = {name for text in with_any for name in _variables(ast.parse(text))}
    yield from sorted(name for name in found if re.fullmatch(r"[A-Z][A-Z0-9_]+", name))


def _variables(tree: ast.AST) -> Iterator[str]:
    """Texts that are asked of the environment, and all that are written like one of ours."""
    for node in ast.walk(tree):
        texts: Iterable[ast.AST] = ()
        if isinstance(node, ast.Call) and "environ" in ast.unparse(node.func):
            texts = node.args[:1]
        elif isinstance(node, ast.Subscript) and "environ" in ast.unparse(node.value):
            texts = (node.slice,)
        elif isinstance(node, ast.Compare) and "environ" in ast.unparse(node.comparators[0]):
            texts = (node.left,)
        elif isinstance(node, ast.Constant):
            is_ours = re.fullmatch(r"(BIREFNET|HF|HUGGINGFACE)_[A-Z_]+", str(node.value))
            texts = (node,) if is_ours else ()
        for text in texts:
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield text.value


def recipes() -> Iterator[str]:
    """Recipes, the settings that there are with their defaults, and what each recipe changes."""
    from birefnet.training.recipe import Recipe
    from birefnet.training.recipes import RECIPES

    def flatten(values: dict[str, Any], where: str = "") -> dict[str, Any]:
        """Nested mappings → dotted names."""
        flat: dict[str, Any] = {}
        for name, value in values.items():
            is_part = isinstance(value, dict)
            flat |= flatten(value, f"{where}{name}.") if is_part else {where + name: value}
        return flat

    usual = flatten(Recipe().to_dict())
    yield from (f"setting {name} = {value!r}" for name, value in usual.items())
    for recipe in RECIPES.values():
        name = f"{recipe.name} {recipe.variant}"
        yield f"recipe {name}"
        for key, value in flatten(recipe.to_dict()).items():
            if value != usual.get(key) and key.split(".")[0] not in ("about", "name", "variant"):
                yield f"recipe {name}: {key} = {value!r}"


def file_keys() -> Iterator[str]:
    """What weights, exported files and training runs say of themselves."""
    from onnx import ModelProto

    from birefnet.export.onnx import describe
    from birefnet.export.request import Request
    from birefnet.network.build import build_network
    from birefnet.weights.save import LAYOUTS, save_directory

    network = build_network("tiny").eval()
    with tempfile.TemporaryDirectory() as folder:
        for layout in ("birefnet", "huggingface"):
            path = save_directory(Path(folder) / layout, network, layout=layout, licence="MIT")
            yield f"{layout}: {', '.join(sorted(file.name for file in path.iterdir()))}"
            config = json.loads((path / "config.json").read_text())
            yield from sorted(set(_keys(config, f"{layout} config.json")))
            yield f"{layout} header: {', '.join(sorted(_header(path / 'model.safetensors')))}"
    yield f"layouts: {', '.join(LAYOUTS)}"
    described = ModelProto()
    describe(described, Request(network, PLAIN, licence="MIT"))
    for entry in described.metadata_props:
        if entry.key == "birefnet":
            yield from sorted(set(_keys(json.loads(entry.value), "onnx birefnet")))
        else:
            yield f"onnx {entry.key} = {entry.value}"


def _header(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        return dict(file.metadata())


def model_catalogue() -> Iterator[str]:
    """Released weights with every name that finds them, and the networks that can be built."""
    from birefnet.network.config import PRESETS
    from birefnet.weights.catalogue import CHECKPOINTS, lookup
    from birefnet.weights.locate import bundled_names

    yield from (f"{name} (bundled)" for name in bundled_names())
    for name, found in CHECKPOINTS.items():
        others = [*found.aliases, *([found.repo] if found.repo else []), found.filename]
        own = [other for other in dict.fromkeys(others) if lookup(other) is found]
        size = found.input_size
        yield f"{name} ({found.kind}, {found.preset}, {size}): {', '.join(own)}".rstrip(": ")
    yield from (f"preset {name}" for name in PRESETS)


LISTS: dict[str, tuple[Callable[[], Iterable[str]], tuple[str, ...]]] = {
    "public_names": (public_names, ()),
    "command_options": (command_options, ()),
    "json_keys": (json_keys, ("av", "openvino", "matplotlib")),
    "routes": (routes, ("fastapi", "multipart")),
    "page_inputs": (page_inputs, ("fastapi", "gradio", "av")),
    "comfyui_nodes": (comfyui_nodes, ()),
    "environment_variables": (environment_variables, ()),
    "recipes": (recipes, ()),
    "file_keys": (file_keys, ("onnx",)),
    "model_catalogue": (model_catalogue, ()),
}
"""Kind → its lines, and the packages without which they are not known."""
