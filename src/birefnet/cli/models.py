"""`birefnet models`: which weights there are, what they are, fetch them, write them anew."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birefnet.cli.options import (
    GroupedCommand,
    Json,
    NetworkConfigText,
    check_output,
    examples,
    parse_network_config,
)
from birefnet.errors import UnknownModelError, WeightsError, require
from birefnet.terminal import console, fail, progress_bar, say

if TYPE_CHECKING:
    from birefnet.weights.catalogue import Checkpoint
    from birefnet.weights.locate import Located

models = typer.Typer(
    help="List, inspect, download and convert networks.",
    no_args_is_help=True,
    epilog=examples(
        "birefnet models list",
        "birefnet models info general",
        "birefnet models convert general general.safetensors --dtype fp16",
    ),
    pretty_exceptions_enable=False,
)

_USES = {
    "free": "free",
    "restricted-data": "trained on restricted data",
    "non-commercial": "non-commercial only",
}
Cache = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="Folder for downloads (BIREFNET_CACHE)."),
]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.add_typer(models, name="models")


@models.command(
    "list",
    cls=GroupedCommand,
    epilog=examples(
        "birefnet models list", "birefnet models list --all", "birefnet models list --json"
    ),
)
def list_models(
    all_files: Annotated[
        bool, typer.Option("--all", help="Also files of releases, ONNX files and backbones.")
    ] = False,
    as_json: Json = False,
    cache: Cache = None,
) -> None:
    """List the names for --model: bundled and released networks."""
    from birefnet.weights.catalogue import CHECKPOINTS
    from birefnet.weights.locate import bundled_names

    rows = [_describe_bundled(name) for name in bundled_names()]
    rows += [
        _describe(checkpoint, cache)
        for checkpoint in CHECKPOINTS.values()
        if all_files or (checkpoint.kind == "network" and checkpoint.repo)
    ]
    if as_json:
        _print_json(rows)
        return
    _print_table(rows)
    say(
        "Licences are those of the weights. Most of these were trained on sets such as DIS5K and "
        "P3M-10k, which are released for research only: `birefnet models info NAME` tells which."
    )


@models.command(
    cls=GroupedCommand,
    epilog=examples(
        "birefnet models info nano",
        "birefnet models info ZhengPeng7/BiRefNet --json",
        "birefnet models info runs/mine/best",
    ),
)
def info(
    model: Annotated[str, typer.Argument(metavar="NAME|PATH", help="A name, file or folder.")],
    as_json: Json = False,
    cache: Cache = None,
) -> None:
    """Show information about a network; nothing is downloaded."""
    from birefnet.weights.locate import locate

    located = locate(model)
    if located.is_bundled:
        values = _describe_bundled(model.strip().lower(), whole=True)
    elif located.checkpoint is None:
        with progress_bar("read", show=not as_json):
            values = _describe_file(located)
    else:
        values = _describe(located.checkpoint, cache)
    if as_json:
        _print_json(values)
        return
    for key, value in values.items():
        if value in (None, [], "") or (key == "approximate_bytes" and values["bytes"]):
            continue
        typer.echo(f"{key.replace('_', ' ') + ':':<19}{_readable(key, value)}")


@models.command(
    cls=GroupedCommand,
    epilog=examples(
        "birefnet models download general",
        "birefnet models download ZhengPeng7/BiRefNet_HR --cache weights",
        "birefnet models download general matting --json",
    ),
)
def download(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME", help="Names, Hugging Face ids or URLs.")
    ],
    cache: Cache = None,
    any_checksum: Annotated[
        bool, typer.Option("--any-checksum", help="Accept a file with another checksum.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Download weights and print their paths; existing files are kept."""
    from birefnet.weights.locate import locate

    wanted = {name: locate(name) for name in names}
    fetched: dict[str, str] = {}
    failed = False
    for name, located in wanted.items():
        try:
            with progress_bar(name, show=not as_json):
                fetched[name] = str(_fetch(located, cache, verify=not any_checksum))
        except UnknownModelError:
            raise
        except WeightsError as error:
            fail(str(error))
            failed = True
        else:
            if not as_json:
                typer.echo(fetched[name])
    if as_json:
        _print_json(fetched)
    if failed:
        raise typer.Exit(1)


@models.command(
    "convert",
    cls=GroupedCommand,
    epilog=examples(
        "birefnet models convert general general.safetensors --dtype fp16",
        "birefnet models convert runs/mine/best mine.pth",
        "birefnet models convert general folder --layout huggingface",
    ),
)
def convert_model(
    source: Annotated[
        str,
        typer.Argument(metavar="NAME|PATH", help="Weights to convert; downloaded if necessary."),
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|DIR", callback=check_output, help="The file or folder to write."
        ),
    ],
    layout: Annotated[
        str | None,
        typer.Option(
            help="birefnet or huggingface (folders), safetensors, pth or comfyui (files).",
            show_default="by the target's suffix",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="fp32, fp16 or bf16.", show_default="as stored"),
    ] = None,
    network_config: NetworkConfigText = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the target.")] = False,
    as_json: Json = False,
) -> None:
    """Write a network in another layout, with the same values."""
    from birefnet.weights.locate import locate

    locate(source)
    require("`birefnet models convert`", "torch")
    from birefnet.weights.checkpoint import load_checkpoint
    from birefnet.weights.convert import DTYPES, convert, layout_of
    from birefnet.weights.locate import SUFFIXES
    from birefnet.weights.save import LAYOUTS, for_other_programs

    if layout is not None and layout not in LAYOUTS:
        raise typer.BadParameter(f"--layout is {layout!r}; choose one of {', '.join(LAYOUTS)}")
    if dtype is not None and dtype not in DTYPES:
        raise typer.BadParameter(f"--dtype is {dtype!r}; choose one of {', '.join(DTYPES)}")
    is_file_name = target.suffix[1:].isalpha() and not target.is_dir()
    if layout is None and is_file_name and target.suffix.lower() not in SUFFIXES:
        raise typer.BadParameter(
            f"{target} ends in {target.suffix}; give one of {', '.join(SUFFIXES)}, or --layout "
            "birefnet for a folder of that name"
        )
    with progress_bar("convert", show=not as_json):
        written = convert(
            source,
            target,
            layout=layout,
            dtype=DTYPES[dtype] if dtype else None,
            config=parse_network_config(network_config),
            overwrite=overwrite,
        )
        preprocess = load_checkpoint(written, dtype=None).preprocess
    if as_json:
        _print_json({"written": str(written)})
    else:
        typer.echo(str(written))
    if note := for_other_programs(preprocess, layout or layout_of(target)):
        say(note)


def _fetch(located: Located, cache: Path | None, *, verify: bool) -> Path:
    """Fetch the file that would run here: without PyTorch the published ONNX file, if any."""
    from birefnet.inference.load import runs_published_onnx
    from birefnet.weights.download import fetch
    from birefnet.weights.hub import fetch_repository

    if located.path is not None:
        return located.path
    if located.repository is not None:
        return fetch_repository(located.repository, cache_dir=cache)
    what = located.checkpoint or located.name
    if located.onnx is not None and runs_published_onnx(located):
        what = located.onnx
        if what != located.checkpoint:
            say(
                f"without PyTorch {located.name} runs as its published ONNX file {what.name}, so "
                'that file is fetched; for the weights first pip install "birefnet[torch]"'
            )
    return fetch(what, cache_dir=cache, verify=verify)


def _describe(checkpoint: Checkpoint, cache: Path | None) -> dict[str, object]:
    from birefnet.weights.download import cached

    path = cached(checkpoint, cache_dir=cache)
    return {
        "name": checkpoint.name,
        "title": checkpoint.title,
        "task": checkpoint.task,
        "kind": checkpoint.kind,
        "architecture": checkpoint.preset,
        "input": checkpoint.input_size if checkpoint.kind != "backbone" else "",
        "parameters": checkpoint.parameters,
        "precision": checkpoint.precision,
        "bytes": path.stat().st_size if path else checkpoint.bytes,
        "approximate_bytes": checkpoint.approximate_bytes,
        "licence": checkpoint.licence,
        "use": checkpoint.use,
        "data": checkpoint.data,
        "scores": [
            {"dataset": s.dataset, **s.values, "source": s.source} for s in checkpoint.scores
        ],
        "sha256": checkpoint.sha256,
        "addresses": list(checkpoint.addresses),
        "aliases": list(checkpoint.aliases),
        "gated": checkpoint.gated,
        "bundled": False,
        "cached": str(path) if path else None,
    }


def _describe_bundled(name: str, *, whole: bool = False) -> dict[str, object]:
    from birefnet.weights.locate import BUNDLED, read_settings

    settings = read_settings(BUNDLED / name / "config.json")
    path = BUNDLED / name / "model.safetensors"
    values = {
        "name": name,
        "title": settings.get("title", "carried by the package, needs no download"),
        "task": settings.get("task", "general"),
        "kind": "network",
        "architecture": settings.get("network", {}).get("backbone"),
        "input": _input_of(settings["preprocess"]),
        "parameters": settings.get("parameters"),
        "precision": settings.get("precision"),
        "bytes": path.stat().st_size if path.exists() else None,
        "approximate_bytes": None,
        "licence": settings.get("licence"),
        "use": settings.get("use", "free"),
        "data": settings.get("data", settings.get("source")),
        "scores": settings.get("scores", []),
        "bundled": True,
        "cached": str(path.parent),
    }
    more = {key: settings.get(key) for key in ("source", "network", "preprocess")}
    return values | {"path": str(path), **more} if whole else values


def _describe_file(located: Located) -> dict[str, object]:
    require(f"reading {located.name}", "torch")
    from birefnet.weights.checkpoint import load_checkpoint

    loaded = load_checkpoint(located, dtype=None, offline=True)
    checkpoint = loaded.checkpoint
    return {
        "name": loaded.name,
        "path": str(loaded.path),
        "kind": "network",
        "architecture": loaded.config.backbone,
        "input": _input_of(loaded.preprocess.to_dict()),
        "parameters": sum(p.numel() for p in loaded.network.parameters()),
        "precision": str(loaded.stored_dtype).removeprefix("torch."),
        "bytes": loaded.path.stat().st_size,
        "licence": loaded.licence,
        "source": loaded.source,
        "data": checkpoint.data if checkpoint else None,
        "network": loaded.config.to_dict(),
        "preprocess": loaded.preprocess.to_dict(),
    }


def _input_of(preprocess: Mapping[str, Any]) -> str:
    """Of `Preprocess.to_dict`, for people to read."""
    if preprocess["fit"] == "native":
        return f"native, {preprocess['minimum']}-{preprocess['maximum']}"
    views = preprocess.get("looks") or [(preprocess["width"], preprocess["height"])]
    return " and ".join(f"{view[0]}x{view[1]}" for view in views)


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "for", "task", "input", "size", "licence", "here"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "size" else "left")
    for row in rows:
        here = "bundled" if row["bundled"] else "yes" if row["cached"] else ""
        licence = row["licence"] or ""
        if row["use"] != "free":
            licence += f", {_USES[row['use']]}"
        table.add_row(
            row["name"], row["title"], row["task"], row["input"], _size(row), licence, here
        )
    console().print(table)


def _size(row: dict[str, Any]) -> str:
    size = row["bytes"] or row["approximate_bytes"]
    if size is None:
        return ""
    return f"{'' if row['bytes'] else '~'}{size / 1e6:,.0f} MB"


def _readable(key: str, value: Any) -> str:
    if key.endswith("bytes"):
        return f"{value:,} ({value / 1e6:,.0f} MB)"
    if key == "parameters":
        return f"{value:,}"
    if key == "use":
        return _USES.get(value, str(value))
    if key == "scores" and isinstance(value, list):
        return "; ".join(map(_score, value))
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _score(score: dict[str, object]) -> str:
    values = [f"{k} {v}" for k, v in score.items() if k not in ("dataset", "source")]
    return f"{score.get('dataset', '')} {', '.join(values)} ({score.get('source', 'measured')})"


def _print_json(values: object) -> None:
    typer.echo(json.dumps(values, indent=2))
