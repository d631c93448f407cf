"""Files of weights for `from_pretrained`: named ones, local ones, and those of the Hub.

Only .safetensors are read here, and no code of a repository is fetched or run.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birefnet.errors import WeightsError
from birefnet.weights.cache import hub_endpoint, is_offline
from birefnet.weights.catalogue import Checkpoint, lookup
from birefnet.weights.download import SWITCHED_OFF
from birefnet.weights.hub import choose_files
from birefnet.weights.locate import BUNDLED, bundled_names, find_weights, part_names, read_json
from birefnet.weights.obtain import weight_files

_SUFFIX = ".safetensors"
_CONFIG = "config.json"


class HubError(WeightsError, OSError):
    """Hugging Face does not give a model; an `OSError` too, which callers of `transformers` expect.

    Args:
        repo: the model.
        reason: what happened, in a clause.
    """

    def __init__(self, repo: str, reason: str) -> None:
        super().__init__(
            f"{reason}; download {hub_endpoint()}/{repo} elsewhere and give its folder, or set "
            "HF_ENDPOINT to a mirror of Hugging Face that has it"
        )


@dataclass(frozen=True)
class HubOptions:
    """How to reach Hugging Face, with the meanings that `transformers` gives these arguments."""

    cache_dir: str | os.PathLike[str] | None = None
    force_download: bool = False
    local_files_only: bool = False
    token: str | bool | None = None
    revision: str | None = None
    subfolder: str = ""
    variant: str | None = None

    @property
    def is_offline(self) -> bool:
        """Whether nothing is downloaded, by argument or by the environment."""
        return self.local_files_only or is_offline()

    @classmethod
    def taken_from(cls, arguments: dict[str, Any]) -> HubOptions:
        """Those among `arguments`, which lose them."""
        names = [name for name in cls.__dataclass_fields__ if name in arguments]
        given = {name: arguments.pop(name) for name in names}
        return cls(**{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class Location:
    """Where a model's files are.

    Attributes:
        name: as it was asked for.
        folder: on this machine, or `None`.
        file: of weights on this machine, where one was asked for.
        repo: on Hugging Face, or `None`.
        checkpoint: the table's entry, if it is one.
    """

    name: str
    folder: Path | None = None
    file: Path | None = None
    repo: str | None = None
    checkpoint: Checkpoint | None = None


def find_location(name: str | os.PathLike[str]) -> Location:
    """Locate `name`: a path that exists, a bundled or released name, or an id on the Hub."""
    text = os.fspath(name)
    path = Path(text).expanduser()
    if path.is_dir():
        return Location(text, folder=path)
    if path.is_file():
        return Location(text, folder=path.parent, file=path)
    if text.lower() in bundled_names():
        return Location(text, folder=BUNDLED / text.lower())
    checkpoint = lookup(text)
    if "/" in text:
        return Location(text, repo=text, checkpoint=checkpoint)
    if checkpoint is None or checkpoint.kind != "network":
        weight_files(text, offline=True)  # says what is near, or why it is not a network
        raise AssertionError("weight_files raises for what is not a network")
    return Location(text, checkpoint=checkpoint)


def read_config(location: Location, options: HubOptions) -> dict[str, Any]:
    """The config.json of a model, `{}` where it has none."""
    if location.repo is not None:
        file = _download(location.repo, _CONFIG, options, required=False)
        return read_json(file) if file is not None else {}
    if location.folder is None or (
        location.file is not None and location.file.name != "model.safetensors"
    ):
        return {}
    file = location.folder / options.subfolder / _CONFIG
    return read_json(file) if file.is_file() else {}


def has_file(location: Location, filename: str, options: HubOptions) -> bool:
    """Whether a model comes with a file of this name."""
    if location.repo is not None:
        return _download(location.repo, filename, options, required=False) is not None
    return (
        location.folder is not None and (location.folder / options.subfolder / filename).is_file()
    )


def find_files(location: Location, options: HubOptions) -> Path:
    """The file of weights, or the folder of a split one, downloaded if need be.

    Raises:
        WeightsError: there is none, or only such as could carry code.
        HubError: the Hub cannot be reached or shows no such repository.
    """
    if location.file is not None:
        return _checked(location.file)
    if location.folder is not None:
        folder = location.folder / options.subfolder
        if options.variant:
            return _checked(folder / f"model.{options.variant}{_SUFFIX}")
        files = find_weights(folder)
        _checked(files[0])
        return files[0] if len(files) == 1 else folder
    if location.repo is not None:
        return _fetch(location.repo, options)
    assert location.checkpoint is not None
    _refuse_code(location.checkpoint.filename, location.name)
    resolved = weight_files(
        location.checkpoint.name, cache_dir=options.cache_dir, offline=options.is_offline
    )
    return resolved.files[0]


def _fetch(repo: str, options: HubOptions) -> Path:
    from huggingface_hub import HfApi

    usual = f"model.{options.variant}{_SUFFIX}" if options.variant else f"model{_SUFFIX}"
    file = _download(repo, usual, options, required=bool(options.variant))
    if file is not None:
        return file
    index = _download(repo, f"{usual}.index.json", options, required=False)
    if index is not None:
        for part in part_names(index):
            _refuse_code(part, repo)
            _download(repo, part, options)
        return index.parent
    if options.is_offline:
        cause = "local_files_only is set" if options.local_files_only else SWITCHED_OFF
        raise HubError(repo, f"{repo} is not in the cache and {cause}")
    api = HfApi(endpoint=hub_endpoint(), token=options.token)
    try:
        listed = api.model_info(repo, revision=options.revision).siblings or ()
    except Exception as failure:  # of httpx or requests, as the version of the Hub's client has it
        reason = str(failure).strip().partition("\n")[0].rstrip(".")
        raise HubError(
            repo, f"cannot fetch {repo}: {reason or type(failure).__name__}"
        ) from failure
    inside = f"{options.subfolder}/" if options.subfolder else ""
    names = [
        file.rfilename.removeprefix(inside) for file in listed if file.rfilename.startswith(inside)
    ]
    chosen = choose_files(names, repo)[-1]
    _refuse_code(chosen, repo)
    file = _download(repo, chosen, options)
    assert file is not None
    return file


def _download(
    repo: str, filename: str, options: HubOptions, *, required: bool = True
) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        path = hf_hub_download(
            repo,
            filename,
            subfolder=options.subfolder or None,
            revision=options.revision,
            cache_dir=None if options.cache_dir is None else os.fspath(options.cache_dir),
            force_download=options.force_download,
            local_files_only=options.is_offline,
            token=options.token,
            endpoint=hub_endpoint(),
        )
    except EntryNotFoundError as failure:  # also: not in the cache, and no way to the Hub
        if required:
            raise HubError(repo, f"cannot fetch {filename} of {repo}: {failure}") from failure
        return None
    return Path(path)


def _checked(file: Path) -> Path:
    if not file.is_file():
        raise WeightsError(f"there is no file {file}")
    _refuse_code(file.name, str(file.parent))
    return file


def _refuse_code(filename: str, where: str) -> None:
    if not filename.endswith(_SUFFIX):
        raise WeightsError(
            f"{where} has its weights in {filename}, and only .safetensors are read here: write "
            f"them anew with `birefnet models convert {where} DIR --layout huggingface` and load "
            "DIR, or use birefnet.load, which reads such files without running their code"
        )
