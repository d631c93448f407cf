"""The page that runs in a browser alone: files for any web server, with weights beside them.

`site` holds what `npm ci && npm run build` makes of the folder `web` of the repository. The network
runs in ONNX Runtime's build for browsers, which reads the same graph and weights as the command.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from birefnet.errors import UsageError, require
from birefnet.files import check_path
from birefnet.imaging.geometry import Preprocess
from birefnet.imaging.io import write_atomic
from birefnet.weights.locate import GRAPH, Settings, WeightFiles
from birefnet.weights.obtain import weight_files

SITE = Path(__file__).with_name("site")
_WEIGHTS, _CREDITS = "model.safetensors", "ATTRIBUTION.md"
_WORKER = "sw.js"  # the service worker, which keeps the files of one version


def write_site(model: str | os.PathLike[str], output: Path) -> list[Path]:
    """Write the page and its weights into a folder; other files there stay.

    Args:
        model: `nano`, or a directory with config.json and model.safetensors, such as training
            leaves. Where model.onnx is missing there, it is made; that needs the extra `onnx`.
        output: the folder, made if it is not there.

    Returns:
        the files written.

    Raises:
        UsageError: weights that are no such directory, or want pictures that the page cannot make.
        MissingExtraError: the graph is missing and so is the extra.
        OSError: the folder cannot be written.
    """
    contents = {
        path.relative_to(SITE).as_posix(): path.read_bytes()
        for path in sorted(SITE.rglob("*"))
        if path.is_file() and path.name != "sources.sha256"  # of the build
    }
    contents |= {f"model/{name}": data for name, data in _model(weight_files(model)).items()}
    version = hashlib.sha256(b"".join(contents.values())).hexdigest()[:16]
    worker = contents.pop(_WORKER).replace(b"VERSION", version.encode())
    paths = []
    for name, data in [*contents.items(), (_WORKER, worker)]:  # last: it tells browsers to update
        path = output / name
        check_path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
        paths.append(path)
    return paths


def _model(source: WeightFiles) -> dict[str, bytes]:
    """Files of the network by name."""
    weights = source.files[0]
    if weights.name != _WEIGHTS or not source.settings:
        raise UsageError(
            f"{source.name} is not a directory with config.json and {_WEIGHTS}, which the page "
            "needs; give nano, or a directory that training or `birefnet models convert` wrote"
        )
    _check(source.name, source.settings)
    licence = source.settings.get("licence") or "not stated"
    credits = weights.with_name(_CREDITS)
    return {
        "config.json": weights.with_name("config.json").read_bytes(),
        GRAPH: source.graph.read_bytes() if source.graph.is_file() else _made_graph(weights),
        _WEIGHTS: weights.read_bytes(),
        _CREDITS: credits.read_bytes()
        if credits.is_file()
        else f"# {source.name}\n\nLicence of the weights: {licence}\n".encode(),
    }


def _check(name: str, settings: Settings) -> None:
    """Refuse weights that want what the page does not do."""
    preprocess = Preprocess.from_dict(settings.get("preprocess", {}))
    if (preprocess.fit, preprocess.interpolation) != ("stretch", "bilinear"):
        raise UsageError(
            f"the page stretches pictures bilinearly, and {name} wants them {preprocess}"
        )
    if settings.get("network", {}).get("guidance_channel"):
        raise UsageError(f"{name} has a guidance channel, which the page cannot fill; give another")


def _made_graph(weights: Path) -> bytes:
    require(f"a page with weights that have no {GRAPH} beside them", "onnx")
    from birefnet.export.graph_beside import write_graph

    with tempfile.TemporaryDirectory() as folder:
        for path in (weights, weights.with_name("config.json")):
            (Path(folder) / path.name).write_bytes(path.read_bytes())
        return write_graph(Path(folder)).read_bytes()


def facts(paths: list[Path], output: Path) -> dict[str, object]:
    """The written files for JSON: sizes in bytes by name."""
    files = {path.relative_to(output).as_posix(): path.stat().st_size for path in paths}
    return {"folder": str(output), "files": files, "bytes": sum(files.values())}
