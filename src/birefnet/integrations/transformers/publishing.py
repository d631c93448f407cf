"""Saving a model for others: its image processor beside it, a model card on Hugging Face."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import PreTrainedModel

from birefnet.integrations.transformers.image_processing import BiRefNetImageProcessor
from birefnet.integrations.transformers.model_card import model_card
from birefnet.weights.cache import hub_endpoint


def push(
    model: PreTrainedModel,
    repo_id: str,
    *,
    commit_message: str | None = None,
    commit_description: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    tags: Sequence[str] = (),
    notes: str = "",
    **saving: Any,
) -> Any:
    """Upload weights, configuration, image processor and, where there is none yet, a model card.

    Args:
        repo_id: `owner/name`, or a name alone for one's own account; created if need be.
        private: of a new repository; `None` as the account is set up.
        tags, notes: for the card, see `model_card`.
        **saving: of `save_pretrained`.
        Others as in `huggingface_hub.HfApi.upload_folder`.

    Returns:
        What huggingface_hub says of the commit.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub_endpoint(), token=token)
    visibility: dict[str, Any] = {} if private is None else {"private": private}
    repo = api.create_repo(repo_id, exist_ok=True, **visibility).repo_id
    if revision is not None and not create_pr:
        api.create_branch(repo, branch=revision, exist_ok=True)
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder, **saving)
        if not api.file_exists(repo, "README.md", revision=revision):
            card = model_card(
                model.config, repo, parameters=model.num_parameters(), tags=tags, notes=notes
            )
            (Path(folder) / "README.md").write_text(card, encoding="utf-8")
        return api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            commit_message=commit_message or "Upload BiRefNet",
            commit_description=commit_description,
            revision=revision,
            create_pr=create_pr,
        )


def save_processor(model: PreTrainedModel, folder: str) -> None:
    """Write preprocessor_config.json, so that pipelines find it."""
    processor = BiRefNetImageProcessor.from_preprocess(model.config.preprocess_config)
    processor.save_pretrained(folder)
