"""Open whatever was named as training data: folders, a Hugging Face data set, tar shards."""

from __future__ import annotations

from birefnet.training.data.folders import find_set
from birefnet.training.data.sources import FolderSource, Source


def open_source(place: str) -> Source:
    """Open a folder, a Hugging Face data set (`hf:…`) or tar shards (`wds:…`).

    Raises:
        DataError: it is not there or not complete.
        MissingExtraError: `hf:` or `wds:` without the extra `data`.
    """
    if place.startswith("hf:"):
        from birefnet.training.data.hub import HubSource

        return HubSource(place)
    if place.startswith("wds:"):
        from birefnet.training.data.shards import ShardSource

        return ShardSource(place)
    return FolderSource(find_set(place))
