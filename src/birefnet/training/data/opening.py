"""Open whatever was named as training data: folders, data sets, shards, generated pictures."""

from __future__ import annotations

from birefnet.training.data.folders import find_set
from birefnet.training.data.scenery import PanoramaViews, subjects_removed
from birefnet.training.data.sources import FolderSource, Source
from birefnet.training.data.thin_structures import ThinStructures

PREFIXES = ("hf:", "wds:", "thin:", "panorama:", "subjects-removed:")
"""Prefixes of names that are not folders."""


def open_source(uri: str) -> Source:
    """Open a folder, a Hugging Face data set (`hf:…`), tar shards (`wds:…`) or what is generated.

    `thin:COUNT` are thin structures, `panorama:FOLDER` views of panoramas, and
    `subjects-removed:SET` scenes whose subject is covered.

    Raises:
        DataError: it is not there or not complete.
        MissingExtraError: `hf:` or `wds:` without the extra `data`.
    """
    if uri.startswith("hf:"):
        from birefnet.training.data.hub import HubSource

        return HubSource(uri)
    if uri.startswith("wds:"):
        from birefnet.training.data.shards import ShardSource

        return ShardSource(uri)
    if uri.startswith("thin:"):
        return ThinStructures(uri)
    if uri.startswith("panorama:"):
        return PanoramaViews(open_source(uri.removeprefix("panorama:")))
    if uri.startswith("subjects-removed:"):
        return subjects_removed(open_source(uri.removeprefix("subjects-removed:")))
    return FolderSource(find_set(uri))
