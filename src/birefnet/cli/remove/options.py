"""The options of `birefnet remove` that say how it goes about its work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from birefnet.cli.options import Device, Dtype, Json, MaxMegapixels, check_output, setting


@dataclass(frozen=True)
class RunOptions:
    """How to do the work; `birefnet.options.Options` says what to make of each picture."""

    preset_name: str | None = setting(
        None,
        "A named set of options, listed below; options that you give replace its values.",
        "--preset",
        metavar="NAME",
    )
    presets: Path | None = setting(
        None,
        "Your own presets: a table [NAME] for each, with options as in Python.",
        metavar="FILE.toml",
    )
    high_resolution: bool = setting(False, "The same as --refine-passes 2.", "--high-resolution")
    device: Device = "auto"
    dtype: Dtype = "auto"
    engine: str = setting(
        "auto", "auto, torch, openvino or onnx; or ray for a cluster.", metavar="ENGINE"
    )
    column: str | None = setting(
        None,
        "Column with the pictures, in a table (Parquet or WebDataset, with ray).",
        metavar="NAME",
        show_default="image; jpg in shards",
    )
    name_column: str | None = setting(
        None,
        "Column with the names of the files, in a table.",
        metavar="NAME",
        show_default="the picture's contents; the key in shards",
    )
    max_megapixels: MaxMegapixels = 200
    overwrite: bool | None = setting(
        None,
        "Do all pictures, or none whose output exists.",
        "--overwrite/--skip-existing",
        show_default="none that the manifest calls finished",
    )
    recursive: bool = setting(True, "Search folders inside folders.")
    manifest: str | None = setting(
        None,
        "File with the result of each picture, one line of JSON each; '' for none.",
        metavar="FILE",
        show_default="manifest.jsonl in the output folder",
    )
    retries: int = setting(
        2, "Retries of pictures after a temporary failure of reading or writing.", min=0
    )
    watch: bool = setting(False, "Wait for new pictures.", "--watch", "-w")
    jobs: int | None = setting(
        None,
        "Threads for reading, and as many for writing; with ray: number of networks.",
        "--jobs",
        "-j",
        min=1,
        metavar="N",
        show_default="2; with ray as many as fit",
    )
    report: Path | None = setting(
        None,
        "Write an HTML report: before and after, the least certain pictures first, and failures.",
        callback=check_output,
        metavar="FILE.html",
    )
    profile: bool = setting(False, "Print the time of each stage at the end.", "--profile")
    as_json: Json = False
