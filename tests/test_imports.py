"""Imports point one way, and stay light where they must."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import birefnet

SOURCE = Path(birefnet.__file__).parent
# What each part may import of this package, beside itself and the light modules at the root.
MAY_IMPORT = {
    "errors": set(),
    "compiling": set(),
    "files": {"errors"},
    "processes": {"errors"},
    "terminal": set(),
    "imaging": {"errors", "files", "compiling"},
    "network": {"errors", "compiling", "imaging"},
    "weights": {"errors", "files", "imaging", "network", "terminal"},
    "matte": {"errors", "imaging"},
    "html_report": {"imaging"},
    "inference": {"errors", "files", "imaging", "network", "weights", "matte"},
    "options": {"errors", "imaging", "matte", "inference"},
    "presets": {"errors", "options"},
    "api": {"errors", "imaging", "network", "weights", "matte", "inference"},
    "evaluation": {"errors", "files", "imaging", "inference", "html_report", "processes"},
    "export": {"errors", "files", "imaging", "network", "weights", "inference"},
    "video": {"errors", "files", "imaging", "matte", "inference", "options", "api"},
    "explain": {
        "errors",
        "files",
        "imaging",
        "network",
        "weights",
        "matte",
        "html_report",
        "inference",
        "api",
    },
    "serving": {
        "errors",
        "files",
        "html_report",
        "imaging",
        "weights",
        "matte",
        "inference",
        "options",
        "presets",
        "api",
    },
    "compat": {
        "errors",
        "files",
        "terminal",
        "imaging",
        "weights",
        "matte",
        "inference",
        "options",
        "api",
    },
}
EDGES = {
    "cli",
    "serving",
    "video",
    "export",
    "explain",
    "integrations",
    "compat",
    "training",
    "evaluation",
}
# `cli` uses every edge. Beside that, edges meet only in `compat`: its parts are built on what takes
# them in, and these know only the modules of `compat` that list its parts.
HOSTS = {"cli", "serving", "integrations"}
INTERFACE = {f"birefnet.compat.{name}" for name in ("commands", "routes", "comfyui_packs")}
# What does not follow these rules yet: a file, and what it imports.
EXCEPTIONS = {
    ("serving/native/video.py", "video"),  # the route of videos
    ("integrations/ray_serve.py", "serving"),  # the server's application, run by Ray
    ("integrations/transformers/modeling.py", "training"),  # the loss of `forward(labels=…)`
}
HEAVY = ("torch", "cv2", "PIL", "numpy", "huggingface_hub", "rich", "numba", "jinja2")


def modules(part: str) -> list[Path]:
    single = SOURCE / f"{part}.py"
    return [single] if single.exists() else sorted((SOURCE / part).rglob("*.py"))


def imported(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Dotted names that a file imports, in functions and for the type checker too."""
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            module = node.module or ""
            names.add(module)
            inner = {f"{module}.{alias.name}" for alias in node.names}
            names.update(name for name in inner if module == "birefnet" or is_module(name))
        if top_level_only and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if top_level_only and isinstance(node, (ast.FunctionDef, ast.Lambda)):
            return
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return names


def is_module(name: str) -> bool:
    package, *inner = name.split(".")
    place = SOURCE.joinpath(*inner)
    return package == "birefnet" and (place.is_dir() or place.with_suffix(".py").exists())


def parts_of(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("birefnet.")}


def exceptions(path: Path) -> set[str]:
    file = path.relative_to(SOURCE).as_posix()
    return {part for name, part in EXCEPTIONS if name == file}


def files_of_edges() -> list[tuple[str, Path]]:
    """Each file of an edge other than the command, with the name of its edge."""
    return [(edge, path) for edge in sorted(EDGES - {"cli"}) for path in modules(edge)]


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_point_one_way(part: str) -> None:
    for path in modules(part):
        beside = EDGES if part in EDGES else {part, *exceptions(path)}  # edges: see below
        wrong = parts_of(imported(path)) - MAY_IMPORT[part] - beside
        assert not wrong, f"{path.relative_to(SOURCE)} imports {wrong}"


def test_one_way_is_one_way() -> None:
    graphlib.TopologicalSorter(MAY_IMPORT).prepare()


def test_no_import_goes_in_a_circle() -> None:
    """In functions and for types neither: each module can be read before those that use it."""
    graph = {}
    for path in SOURCE.rglob("*.py"):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        found = {other.removeprefix("birefnet.") for other in imported(path) if is_module(other)}
        # A package is imported before what is in it; that its parts are meant, not it, is usual.
        graph[name] = {other for other in found if not name.startswith(f"{other}.")} - {name}
    del graph["__init__"]
    graphlib.TopologicalSorter(graph).prepare()


def test_edges_meet_only_in_the_command_and_in_compat() -> None:
    for edge, path in files_of_edges():
        allowed = {edge, *(HOSTS if edge == "compat" else {"compat"} if edge in HOSTS else ())}
        wrong = parts_of(imported(path)) & EDGES - allowed - exceptions(path)
        assert not wrong, f"{path.relative_to(SOURCE)} imports {wrong}"


def test_no_more_exceptions_than_needed() -> None:
    for file, part in EXCEPTIONS:
        assert part in parts_of(imported(SOURCE / file)), f"{file} no longer imports {part}"


def test_other_people_s_interfaces_are_known_to_compat_alone() -> None:
    for path in SOURCE.rglob("*.py"):
        if not path.is_relative_to(SOURCE / "compat"):
            inner = {name for name in imported(path) if name.startswith("birefnet.compat.")}
            assert inner <= INTERFACE, f"{path.relative_to(SOURCE)} imports {inner - INTERFACE}"


def test_other_people_s_interfaces_do_not_know_each_other() -> None:
    for path in modules("compat"):
        own = path.relative_to(SOURCE / "compat").parts[0].removesuffix(".py")
        names = (name.split(".") for name in imported(path))
        peers = {name[2] for name in names if name[:2] == ["birefnet", "compat"] and name[2:]}
        is_list = path.parent.name == "compat" and own in ("commands", "routes")
        assert is_list or peers <= {own, "http"}, f"{path.relative_to(SOURCE)}: {peers}"


def test_only_edges_import_edges() -> None:
    for path in SOURCE.rglob("*.py"):
        part = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if part not in EDGES | {"__main__"}:
            assert not parts_of(imported(path)) & EDGES, path


@pytest.mark.parametrize("folder", ["benchmarks", "docs", "tests", "tools"])
def test_scripts_import_what_is_there(folder: str) -> None:
    """Modules, and names in them. Most scripts are run by slow tests only."""
    for path in (SOURCE.parents[1] / folder).rglob("*.py"):
        imports = {
            (node.module, alias.name)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom) and parts_of({f"{node.module}."})
            for alias in node.names
        }
        missing = {
            f"{module}.{name}"
            for module, name in imports
            if not is_module(module)
            or not (is_module(f"{module}.{name}") or name in names_of(module))
        }
        assert not missing, f"{path} imports {missing}"


@functools.cache
def names_of(module: str) -> set[str]:
    """The names at the top of a module, or those that it offers where it finds them when asked."""
    place = SOURCE.joinpath(*module.split(".")[1:])
    path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
            return
        if isinstance(node, ast.alias):
            names.add(node.asname or node.name)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return names


def test_imaging_and_evaluation_have_no_torch() -> None:
    for path in [*modules("imaging"), *modules("evaluation")]:
        assert not {n for n in imported(path) if n.split(".")[0] == "torch"}, path


def test_command_modules_import_only_typer() -> None:
    allowed = {"typer", "birefnet", *sys.stdlib_module_names}
    from birefnet.cli.main import COMMANDS

    names = {"birefnet.cli.main", "birefnet.cli.options", *COMMANDS.values()}
    paths = [Path(importlib.import_module(name).__file__ or "") for name in names]
    for path in [*paths, *SOURCE.glob("compat/*/command.py")]:
        roots = {n.split(".")[0] for n in imported(path, top_level_only=True)}
        assert roots <= allowed, f"{path.name} imports {roots - allowed} at its top level"


@pytest.mark.parametrize(
    "module", ["birefnet", "birefnet.cli.main", "birefnet.options", "birefnet.weights"]
)
def test_light_imports(module: str) -> None:
    """A fresh interpreter that imports `module` has loaded nothing heavy."""
    heavy = HEAVY if module != "birefnet.weights" else ("torch",)
    code = f"import sys, {module}; print([n for n in {heavy!r} if n in sys.modules])"
    assert python("-c", code) == "[]"


def test_predictor_needs_no_torch() -> None:
    """Other engines than torch can run without it."""
    code = "import sys, birefnet.inference.predictor, birefnet.matte; print('torch' in sys.modules)"
    assert python("-c", code) == "False"


def test_running_a_network_leaves_the_compiler_out() -> None:
    """torch._dynamo and what it drags along would add seconds to every start."""
    pytest.importorskip("torch")
    code = """if True:
        import sys
        import numpy as np
        from birefnet.inference.predictor import Predictor
        from birefnet.api import load_network
        from birefnet.imaging.geometry import Preprocess
        predictor = Predictor(load_network("tiny"), Preprocess(64, 64), device="cpu")
        predictor.predict(np.zeros((32, 32, 3), np.uint8)).cutout()
        unwanted = ("torch._dynamo", "torch._inductor", "sympy", "torchvision", "huggingface_hub")
        print([name for name in unwanted if name in sys.modules])"""
    assert python("-c", code) == "[]"


def test_help_is_quick() -> None:
    """0.3 s on a quiet machine, as `benchmarks/cold_start.py` measures; here within three times a
    bare interpreter that imports typer, and a second, so that a busy machine passes too."""
    start = time.perf_counter()
    python("-c", "import typer, rich.table, rich.markdown")
    bare = time.perf_counter() - start
    start = time.perf_counter()
    assert "remove" in python("-m", "birefnet", "--help")
    assert time.perf_counter() - start < 3 * bare + 1


def test_help_loads_no_more_than_it_needs() -> None:
    """Of the standard library neither: each of these costs a tenth of the time or more."""
    slow = (*HEAVY, "asyncio", "http", "ssl", "email", "multiprocessing", "decimal", "tempfile")
    code = f"""if True:
        import atexit, sys
        from birefnet.cli.main import main
        atexit.register(lambda: print([name for name in {slow!r} if name in sys.modules]))
        sys.argv = ["birefnet", "--help"]
        main()"""
    assert python("-c", code).endswith("[]")


def test_weights_need_torch_only_to_be_read_and_converted() -> None:
    """The names, the files and the downloads of weights, and the configuration of a network."""
    reading_and_writing = {"checkpoint", "detect", "skeleton", "convert", "save"}
    names = {path.stem for path in modules("weights")} - {"__init__"} - reading_and_writing
    listed = ", ".join(sorted(f"birefnet.weights.{name}" for name in names))
    code = f"import sys, birefnet.network.config, {listed}; print('torch' in sys.modules)"
    assert python("-c", code) == "False"


def test_version_is_the_package_s() -> None:
    project = (SOURCE.parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{birefnet.__version__}"\n' in project
    assert python("-m", "birefnet", "--version") == f"birefnet {birefnet.__version__}"


def test_names_are_found_and_listed() -> None:
    for name in birefnet.__all__:
        assert getattr(birefnet, name) is not None
    assert set(birefnet.__all__) <= set(dir(birefnet))
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = birefnet.nothing_of_the_kind


def python(*arguments: str) -> str:
    """Standard output of a fresh interpreter."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
