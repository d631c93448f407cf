"""Pictures through transformers: image processor, pipelines, the Hub, a short training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("transformers")
from transformers import AutoImageProcessor, AutoModelForImageSegmentation, pipeline
from transformers.pipelines import PIPELINE_REGISTRY

import birefnet
from birefnet.errors import BiRefNetError, DeviceError, ImageError
from birefnet.imaging.geometry import Preprocess
from birefnet.inference.predictor import Predictor
from birefnet.integrations.transformers import (
    BackgroundRemovalPipeline,
    BiRefNetConfig,
    BiRefNetForImageSegmentation,
    BiRefNetImageProcessor,
    background_removal,
    model_card,
)
from birefnet.matte import Matte
from fakes import disc, write_disc
from integrations.hub_stand_in import hub


@pytest.fixture(scope="module")
def model() -> BiRefNetForImageSegmentation:
    """The bundled network at a small size."""
    preprocess = {**BiRefNetConfig.from_pretrained("nano").preprocess, "width": 128, "height": 96}
    preprocess["looks"] = [[128, 96, True], [64, 64, False]]
    return BiRefNetForImageSegmentation.from_pretrained("nano", preprocess=preprocess)


@pytest.fixture(scope="module")
def directory(
    model: BiRefNetForImageSegmentation, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "small"
    model.save_pretrained(folder)
    return folder


def predictor_of(model: BiRefNetForImageSegmentation) -> Predictor:
    return Predictor(model.network, model.config.preprocess_config, device="cpu")


# Image processor


def test_inputs_are_those_of_the_predictor() -> None:
    processor = BiRefNetImageProcessor(size={"height": 64, "width": 96})
    pixels = disc(50, 70)
    values = processor(pixels)["pixel_values"]
    expected = Preprocess(96, 64).plan(50, 70).apply(pixels)
    assert torch.equal(values[0], torch.from_numpy(expected))
    for image in (Image.fromarray(pixels), torch.from_numpy(pixels).permute(2, 0, 1)):
        assert torch.equal(processor(image)["pixel_values"], values)
    four = processor([pixels, pixels[:20], Image.fromarray(pixels), torch.rand(3, 5, 5)])
    assert four["pixel_values"].shape == (4, 3, 64, 96)
    assert processor(np.stack([pixels] * 2))["pixel_values"].shape[0] == 2
    assert processor.preprocess(pixels, return_tensors="np")["pixel_values"].dtype == np.float32
    assert processor(pixels, resolution=128)["pixel_values"].shape == (1, 3, 128, 128)


def test_labels_lie_where_their_pictures_do() -> None:
    processor = BiRefNetImageProcessor(size={"height": 64, "width": 64}, fit="pad")
    mask = np.full((20, 40), 255, np.uint8)
    cutout = np.dstack([disc(20, 40), mask])
    for matte in (mask, Image.fromarray(mask), np.ones((20, 40), np.float32)):
        labels = processor(disc(20, 40), segmentation_maps=matte)["labels"]
        assert labels.shape == (1, 64, 64)
        assert labels[0, 16:48].min() == 1
        assert labels[0, :16].max() == labels[0, 48:].max() == 0
    assert processor(disc(20, 40), segmentation_maps=cutout)["labels"].max() <= 1
    with pytest.raises(ImageError, match="2 mattes for 1 picture"):
        processor(disc(), segmentation_maps=[mask, mask])


def test_mattes_come_back_to_the_picture_s_size() -> None:
    processor = BiRefNetImageProcessor(size={"height": 64, "width": 64}, fit="pad")
    logits = torch.full((2, 1, 64, 64), -9.0)
    logits[:, :, 16:48] = 9.0
    mattes = processor.post_process_mattes({"logits": logits}, [(20, 40), (64, 64)])
    assert [m.shape for m in mattes] == [(20, 40), (64, 64)]
    assert mattes[0].min() > 0.99
    assert 0.4 < mattes[1].mean() < 0.6
    assert processor.post_process_mattes(logits)[0].shape == (64, 64)
    labels = processor.post_process_semantic_segmentation({"logits": logits}, [(20, 40)] * 2)
    assert labels[0].dtype == torch.int64
    assert labels[0].unique().tolist() == [1]


def test_native_sizes_are_no_batch() -> None:
    processor = BiRefNetImageProcessor(fit="native", minimum=32)
    with pytest.raises(ImageError, match="inputs of 2 sizes"):
        processor([disc(64, 64), disc(64, 128)])
    assert processor(disc(64, 128))["pixel_values"].shape == (1, 3, 64, 128)


def test_processors_are_saved_and_found(directory: Path, tmp_path: Path) -> None:
    processor = BiRefNetImageProcessor(size={"height": 64, "width": 96}, fit="pad", minimum=64)
    processor.save_pretrained(tmp_path)
    again = BiRefNetImageProcessor.from_pretrained(tmp_path)
    assert again.preprocess_config == processor.preprocess_config
    auto = AutoImageProcessor.from_pretrained(directory)
    assert type(auto) is BiRefNetImageProcessor
    assert auto.size == {"height": 96, "width": 128}
    # Without a file of its own: what is known of the model.
    (directory / "preprocessor_config.json").rename(directory / "kept.json")
    try:
        from_config = BiRefNetImageProcessor.from_pretrained(directory)
    finally:
        (directory / "kept.json").rename(directory / "preprocessor_config.json")
    assert from_config.preprocess_config == auto.preprocess_config
    assert BiRefNetImageProcessor.from_pretrained("lite-2k").size["width"] == 2560
    with pytest.raises(BiRefNetError, match="choose one of"):
        BiRefNetImageProcessor(fit="squeeze")


# Pipelines


def test_a_pipeline_gives_what_the_predictor_gives(model: BiRefNetForImageSegmentation) -> None:
    remove = background_removal(model, device="cpu")
    assert isinstance(remove, BackgroundRemovalPipeline)
    picture = Image.fromarray(disc(80, 120))
    matte = remove(picture, return_matte=True)
    expected = predictor_of(model).predict(picture)
    assert isinstance(matte, Matte)
    assert np.abs(matte.alpha - expected.alpha).max() < 1e-5
    once = remove(picture, return_matte=True, resolution=64)
    assert (
        np.abs(once.alpha - predictor_of(model).predict(picture, resolution=64).alpha).max() < 1e-5
    )
    cutout = remove(picture)
    assert (cutout.mode, cutout.size) == ("RGBA", (120, 80))
    assert np.array_equal(np.asarray(cutout), matte.cutout())
    assert remove(picture, kind="mask").mode == "L"
    assert remove(picture, kind="colour", background="#ff0000").mode == "RGB"
    hard = np.asarray(remove(picture, kind="mask", threshold=0.5))
    assert set(np.unique(hard)) <= {0, 255}


def test_pipelines_take_batches_and_streams(
    model: BiRefNetForImageSegmentation, tmp_path: Path
) -> None:
    remove = background_removal(model, device="cpu", kind="mask", batch_size=2)
    path = write_disc(tmp_path / "disc.png", height=40, width=60)
    sources = [str(path), Image.open(path), disc(30, 20)]
    masks = remove(sources)
    assert [m.size for m in masks] == [(60, 40), (60, 40), (20, 30)]
    assert np.array_equal(np.asarray(masks[0]), np.asarray(remove(str(path))))
    streamed = remove(source for source in sources)
    assert [m.size for m in streamed] == [(60, 40), (60, 40), (20, 30)]
    again = remove(str(path), kind="cutout", resolution=64)
    assert again.mode == "RGBA"


def test_options_that_make_no_sense(model: BiRefNetForImageSegmentation) -> None:
    remove = background_removal(model, device="cpu")
    with pytest.raises(BiRefNetError, match="no option 'knd'"):
        remove(disc(), knd="mask")
    with pytest.raises(BiRefNetError, match=r"boxes is not for a pipeline; use model\.predictor"):
        remove(disc(), boxes=("1,1,9,9",))
    with pytest.raises(BiRefNetError, match="kind is 'maks'"):
        remove(disc(), kind="maks")
    with pytest.raises(ImageError, match="does not exist"):
        remove("nowhere.jpg")
    with pytest.raises(DeviceError):
        background_removal(model, device="tpu")
    with pytest.raises(BiRefNetError, match="got a Linear"):
        BackgroundRemovalPipeline(model=torch.nn.Linear(1, 1))


def test_pipelines_of_transformers_know_the_task(directory: Path) -> None:
    assert "background-removal" in PIPELINE_REGISTRY.get_supported_tasks()
    remove = pipeline("background-removal", model=str(directory), device="cpu")
    assert remove(Image.fromarray(disc(40, 60))).size == (60, 40)


def test_the_pipeline_image_segmentation(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("ERROR")
    segment = pipeline("image-segmentation", model=str(directory), device="cpu")
    picture = Image.fromarray(disc(40, 60))
    values = {part["label"]: part["mask"] for part in segment(picture)}
    assert set(values) <= {"background", "foreground"}
    assert all(mask.size == (60, 40) for mask in values.values())
    whole = sum(np.asarray(mask) / 255 for mask in values.values())
    assert (whole == 1).all()
    assert "not supported" not in caplog.text


# The Hub


@pytest.fixture
def stand_in(
    own_caches: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[Path, list[str]]]:
    folder = tmp_path / "served"
    with hub(folder) as (address, requests):
        monkeypatch.setenv("HF_ENDPOINT", address)
        # Read once by huggingface_hub, when it is imported.
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        for where in ("constants", "file_download"):  # 0.x keeps a copy of its own
            name = f"huggingface_hub.{where}.HUGGINGFACE_CO_URL_TEMPLATE"
            monkeypatch.setattr(name, template, raising=False)
        yield folder, requests


def test_what_is_pushed_comes_back(
    model: BiRefNetForImageSegmentation,
    stand_in: tuple[Path, list[str]],
    tmp_path: Path,
) -> None:
    folder, requests = stand_in
    model.push_to_hub("me/cutter", token="hf_x", private=True, notes="Mean error 0.01.")
    repository = folder / "me" / "cutter"
    names = sorted(p.name for p in repository.iterdir())
    assert names == ["README.md", "config.json", "model.safetensors", "preprocessor_config.json"]
    card = (repository / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: birefnet\n")
    for text in ('birefnet.load("me/cutter")', "128 x 96", "Mean error 0.01.", "4.6 million"):
        assert text in card
    (repository / "birefnet.py").write_text("raise SystemExit('was run')")
    cache = {"cache_dir": tmp_path / "cache"}
    again = BiRefNetForImageSegmentation.from_pretrained("me/cutter", **cache)
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)
    assert BiRefNetImageProcessor.from_pretrained("me/cutter", **cache).size["width"] == 128
    before = len(requests)
    offline = BiRefNetForImageSegmentation.from_pretrained(
        "me/cutter", local_files_only=True, **cache
    )
    assert len(requests) == before
    assert offline.config.preprocess == model.config.preprocess
    # The same without transformers.
    predictor = birefnet.load("me/cutter", engine="torch", device="cpu")
    assert (predictor.preprocess.width, predictor.preprocess.height) == (128, 96)
    # A card that is there stays.
    (repository / "README.md").write_text("mine")
    again.save_pretrained(tmp_path / "again", push_to_hub=True, repo_id="me/cutter", token="hf_x")
    assert (repository / "README.md").read_text() == "mine"
    assert (tmp_path / "again" / "model.safetensors").is_file()


def test_official_ids_need_no_remote_code(
    model: BiRefNetForImageSegmentation, stand_in: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """Known by their id: config.json tells nothing, and the code beside it is never fetched."""
    folder, requests = stand_in
    repository = folder / "ZhengPeng7" / "BiRefNet_lite-2K"
    model.save_pretrained(repository)
    auto_map = {"AutoConfig": "BiRefNet_config.BiRefNetConfig"}
    (repository / "config.json").write_text(json.dumps({"auto_map": auto_map}))
    (repository / "preprocessor_config.json").unlink()
    (repository / "BiRefNet_config.py").write_text("raise SystemExit('was run')")
    cache = {"cache_dir": tmp_path / "cache"}
    config = BiRefNetConfig.from_pretrained("ZhengPeng7/BiRefNet_lite-2K", **cache)
    assert config.network["backbone"] == "swin_v1_t"
    assert config.preprocess["width"] == 2560
    # Somebody else's repository of that kind: the tensors tell.
    repository.rename(folder / "ZhengPeng7" / "Unknown")
    config = BiRefNetConfig.from_pretrained("ZhengPeng7/Unknown", **cache)
    assert config.network is None
    loaded = AutoModelForImageSegmentation.from_pretrained(
        "ZhengPeng7/Unknown", config=config, **cache
    )
    assert loaded.config.network["backbone"] == "efficientnet_lite0"
    assert not [path for path in requests if path.endswith(".py")]


def test_files_of_another_name_and_repositories_that_are_not_there(
    model: BiRefNetForImageSegmentation, stand_in: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder, _ = stand_in
    model.save_pretrained(folder / "you" / "odd" / "inner")
    inner = folder / "you" / "odd" / "inner"
    (inner / "model.safetensors").rename(inner / "net.safetensors")
    loaded = BiRefNetForImageSegmentation.from_pretrained(
        "you/odd", subfolder="inner", cache_dir=tmp_path
    )
    assert torch.equal(loaded.network.decoder.head.weight, model.network.decoder.head.weight)
    with pytest.raises(OSError, match="404"):
        BiRefNetForImageSegmentation.from_pretrained("no/body", cache_dir=tmp_path)


def test_cards_name_licence_data_and_scores() -> None:
    card = model_card(BiRefNetConfig.from_pretrained("general"), "me/copy", tags=["mine"])
    assert "license: mit\n" in card
    assert "base_model: ZhengPeng7/BiRefNet\n" in card
    assert "- mine\n" in card
    assert "DIS5K is" in card or "DIS5K and" in card
    assert "S 0.911" in card
    assert "trust_remote_code=True" in card
    own = model_card(BiRefNetConfig(network="tiny"), "me/own")
    assert "Licence of the weights: not stated." in own
    assert "trust_remote_code" not in own
    assert "license:" not in own


# Training


class _Discs(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    def __init__(self, processor: BiRefNetImageProcessor) -> None:
        picture = disc(64, 64)
        matte = (picture[..., 0] > 128).astype(np.uint8) * 255
        values = processor(picture, segmentation_maps=matte, resolution=64)
        self.item = {"pixel_values": values["pixel_values"][0], "labels": values["labels"][0]}

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.item


def test_the_trainer_of_transformers_trains_and_resumes(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    config = BiRefNetConfig(network="tiny", preprocess={"width": 64, "height": 64})
    processor = BiRefNetImageProcessor.from_preprocess(config.preprocess_config)

    def trainer(steps: int) -> Any:
        torch.manual_seed(0)
        arguments = TrainingArguments(
            output_dir=str(tmp_path),
            per_device_train_batch_size=2,
            max_steps=steps,
            save_steps=2,
            learning_rate=1e-3,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        return Trainer(
            model=BiRefNetForImageSegmentation(config),
            args=arguments,
            train_dataset=_Discs(processor),
        )

    first = trainer(2)
    first.train()
    saved = tmp_path / "checkpoint-2"
    again = BiRefNetForImageSegmentation.from_pretrained(saved)
    for key, value in first.model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    second = trainer(3)
    result = second.train(resume_from_checkpoint=str(saved))
    assert result.global_step == 3
    kept = again.state_dict()["bb.stem.norm.num_batches_tracked"]
    counted = second.model.state_dict()["bb.stem.norm.num_batches_tracked"]
    assert counted == kept * 3 // 2  # two steps came from the checkpoint, one was made


def test_how_far_pipeline_goes_without_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of docs/transformers.md; a row that fails here may be one that works now."""
    import huggingface_hub.constants
    import transformers

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    model = BiRefNetForImageSegmentation.from_pretrained("nano")
    model.save_pretrained(tmp_path)
    folder = str(tmp_path)
    processor = BiRefNetImageProcessor.from_pretrained("nano")
    works: list[dict[str, Any]] = [
        {"task": "background-removal", "model": folder},
        {"task": "background-removal", "model": model},
        {"task": "image-segmentation", "model": folder},
        {"task": "image-segmentation", "model": model, "image_processor": processor},
    ]
    for arguments in works:
        assert transformers.pipeline(**arguments).task == arguments["task"]
    for arguments in (
        {"model": folder},
        {"task": "background-removal", "model": "nano"},
        {"task": "image-segmentation", "model": "nano"},
    ):
        with pytest.raises((RuntimeError, OSError)):
            transformers.pipeline(**arguments)
