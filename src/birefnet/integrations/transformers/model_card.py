"""Publishing a model on Hugging Face: its README.md, and its image processor beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import PreTrainedModel

from birefnet.errors import needs_extra
from birefnet.integrations.transformers.configuration import BiRefNetConfig
from birefnet.integrations.transformers.image_processing import BiRefNetImageProcessor
from birefnet.weights.cache import hub_endpoint
from birefnet.weights.catalogue import CHECKPOINTS, Checkpoint, lookup

TAGS = ("birefnet", "background-removal", "image-matting", "dichotomous-image-segmentation")
_PAPER = "https://arxiv.org/abs/2401.03407"
# Identifiers of Hugging Face for what this project writes out.
_LICENCES = {"MIT": "mit", "Apache-2.0": "apache-2.0", "CC BY-NC 4.0": "cc-by-nc-4.0"}

_TEXT = """
# {title}

A [BiRefNet]({paper}) that cuts the subject out of a picture: {backbone} encoder, {parameters}
parameters, input {size}.

## Use

With `pip install birefnet`:

```python
import birefnet

predictor = birefnet.load("{repo}")
predictor.predict("photo.jpg").save("photo.png")
```

With `pip install "birefnet[transformers]"`:

```python
from birefnet.integrations.transformers import BiRefNetForImageSegmentation, background_removal

background_removal("{repo}")("photo.jpg").save("photo.png")
model = BiRefNetForImageSegmentation.from_pretrained("{repo}")  # model(pixel_values)[-1]: logits
```
{official}
## Input and output

{preprocess}
The output is one map of logits; their sigmoid is the matte, 0 for background to 1 for foreground.

## Licence and data

{licence}
{scores}"""

_OFFICIAL = """
The names of the weights are those of the official releases, and `config.json` names the official
code, so `AutoModelForImageSegmentation.from_pretrained("{repo}", trust_remote_code=True)` works
without this package, where that code works.
"""


def model_card(
    config: BiRefNetConfig,
    repo: str,
    *,
    parameters: int | None = None,
    tags: Sequence[str] = (),
    notes: str = "",
) -> str:
    """A model card, Markdown with the metadata that Hugging Face reads at its head.

    Args:
        config: of the model.
        repo: `owner/name` where it will lie.
        parameters: how many numbers were trained.
        tags: further ones.
        notes: Markdown for the end, such as results on own data.
    """
    checkpoint = _checkpoint(config)
    size = config.preprocess_config
    text = _TEXT.format(
        title=repo.rpartition("/")[2],
        paper=_PAPER,
        backbone=config.network_config.backbone,
        parameters=f"{parameters / 1e6:.1f} million" if parameters else "an unknown number of",
        size="at its own size" if size.fit == "native" else f"{size.width} x {size.height}",
        repo=repo,
        official=_OFFICIAL.format(repo=repo) if "auto_map" in config.to_dict() else "",
        preprocess=f"RGB pictures in [0, 1], {size}: minus the mean, divided by the deviation.\n",
        licence=_licence(config, checkpoint),
        scores=_scores(checkpoint),
    )
    end = f"\n## Notes\n\n{notes.strip()}\n" if notes.strip() else ""
    return f"---\n{_metadata(config, checkpoint, tags)}\n---\n{text}{end}"


def _metadata(config: BiRefNetConfig, checkpoint: Checkpoint | None, tags: Sequence[str]) -> str:
    with needs_extra("transformers", "a model card"):
        from huggingface_hub import ModelCardData

    licence = _LICENCES.get(config.licence or "")
    other: dict[str, Any] = {"license_name": config.licence} if config.licence else {}
    data = ModelCardData(
        library_name="birefnet",
        pipeline_tag="image-segmentation",
        license=licence or ("other" if config.licence else None),
        base_model=checkpoint.repo if checkpoint else None,
        tags=[*TAGS, *(tag for tag in tags if tag not in TAGS)],
        **({} if licence else other),
    )
    return str(data.to_yaml()).strip()


def _checkpoint(config: BiRefNetConfig) -> Checkpoint | None:
    """The release that these weights are, or began with."""
    for entry in CHECKPOINTS.values():
        if config.source and config.source in entry.addresses:
            return entry
    return lookup(config.source) if config.source else None


def _licence(config: BiRefNetConfig, checkpoint: Checkpoint | None) -> str:
    lines = [f"Licence of the weights: {config.licence or 'not stated'}."]
    if config.source:
        lines.append(f"Source: {config.source}.")
    if checkpoint is not None and checkpoint.data:
        lines.append(f"Trained on: {checkpoint.data}.")
    return "\n".join(lines) + "\n"


def _scores(checkpoint: Checkpoint | None) -> str:
    if checkpoint is None or not checkpoint.scores:
        return ""
    lines = [f"- {score} ({score.source})" for score in checkpoint.scores]
    return f"\n## Reported results of {checkpoint.name}\n\n" + "\n".join(lines) + "\n"


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
