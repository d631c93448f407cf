"""Networks from any repository on Hugging Face: its files as data, never its code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import quote

from birefnet.errors import WeightsError
from birefnet.weights.cache import (
    HUB,
    cache_directory,
    hub_snapshot,
    is_offline,
    mirrored,
)
from birefnet.weights.catalogue import Checkpoint
from birefnet.weights.download import SWITCHED_OFF, FetchError, fetch
from birefnet.weights.locate import SUFFIXES, Repository, find_weights, part_names
from birefnet.weights.transfer import PermanentError, Report, TransientError, open_address

_MAX_ANSWER = 8 << 20
_COMPLETE = ".complete"  # in a folder whose files have all come


def page_of(repository: Repository) -> str:
    """The address of a repository's files."""
    return f"{HUB}/{repository.repo}/tree/{repository.revision}"


def fetch_repository(
    repository: Repository,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    progress: bool | Report | None = None,
    timeout: float = 30.0,
) -> Path:
    """A local folder with the weights of `repository` and its config.json, if it has one.

    What lies in Hugging Face's cache or in ours is used as it is.

    Raises:
        FetchError: there is no such repository, or no way to it.
        WeightsError: it holds no weights.
    """
    there = cached_repository(repository, cache_dir=cache_dir)
    if there is not None:
        return there
    if is_offline(offline):
        raise FetchError(
            f"{repository} is not in the cache and {SWITCHED_OFF}", page_of(repository)
        )
    folder_name = _folder_name(repository)
    folder = cache_directory(cache_dir) / folder_name

    def get(filename: str) -> Path:
        address = f"{HUB}/{repository.repo}/resolve/{repository.revision}/{quote(filename)}"
        entry = Checkpoint(
            name=folder_name,
            title="",
            task="",
            kind="network",
            preset="",
            filename=filename,
            addresses=(address,),
        )
        return fetch(entry, cache_dir=cache_dir, offline=False, progress=progress, timeout=timeout)

    for filename in choose_files(_listing(repository, timeout), str(repository)):
        path = get(filename)
        if filename.endswith(".index.json"):
            for part in part_names(path):
                get(part)
    (folder / _COMPLETE).touch()
    return folder


def cached_repository(
    repository: Repository, *, cache_dir: str | os.PathLike[str] | None = None
) -> Path | None:
    """The local folder of a repository that was fetched before, else `None`; never downloads."""
    snapshot = hub_snapshot(*repository)
    if snapshot is not None and _has_weights(snapshot):
        return snapshot
    folder = cache_directory(cache_dir) / _folder_name(repository)
    return folder if (folder / _COMPLETE).exists() and _has_weights(folder) else None


def _folder_name(repository: Repository) -> str:
    return f"{repository.repo.replace('/', '--')}@{repository.revision}"


def choose_files(names: list[str], label: str) -> list[str]:
    """Of a repository's files: config.json, and the weights, .safetensors before others."""
    there = {name for name in names if "/" not in name}
    chosen = [name for name in ("config.json",) if name in there]
    usual = (
        *("model.safetensors", "model.safetensors.index.json"),
        *("pytorch_model.bin", "pytorch_model.bin.index.json"),
    )
    for name in usual:
        if name in there:
            return [*chosen, name]
    for suffix in SUFFIXES:
        candidates = sorted(name for name in there if name.endswith(suffix))
        if len(candidates) == 1:
            return [*chosen, candidates[0]]
        if candidates:
            some = ", ".join(candidates[:4])
            raise WeightsError(
                f"{label} holds several files of weights ({some}): download one of them and give "
                "its path"
            )
    raise WeightsError(f"{label} holds no file of weights ({', '.join(SUFFIXES)})")


def _has_weights(folder: Path) -> bool:
    try:
        return bool(find_weights(folder))
    except WeightsError:
        return False


def _listing(repository: Repository, timeout: float) -> list[str]:
    path = f"{HUB}/api/models/{repository.repo}/revision/{repository.revision}"
    reasons: list[str] = []
    for address in mirrored(path):
        try:
            answer, _ = open_address(address, timeout=timeout)
            with answer:
                values = json.loads(answer.read(_MAX_ANSWER))
            return [str(file["rfilename"]) for file in values["siblings"]]
        except PermanentError as failure:
            if failure.status in (401, 403, 404):
                reasons.append(
                    f"Hugging Face has no {repository}, or shows it to its members only "
                    f"(then set HF_TOKEN; it answered {failure.status})"
                )
            else:
                reasons.append(str(failure))
        except (TransientError, OSError) as failure:
            reasons.append(str(failure))
        except (ValueError, KeyError, TypeError):
            reasons.append(f"{address} did not answer with a list of files")
    raise FetchError(
        f"cannot fetch {repository}: {'; '.join(dict.fromkeys(reasons))}", page_of(repository)
    )
