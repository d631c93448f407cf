"""The model of transformers: equal numbers, every way to load and save, training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("transformers")
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForImageSegmentation

import birefnet
from birefnet.errors import DeviceError, WeightsError
from birefnet.imaging.geometry import Preprocess
from birefnet.integrations.transformers import (
    BiRefNetConfig,
    BiRefNetForImageSegmentation,
    BiRefNetOutput,
)
from birefnet.network.build import build_network
from birefnet.network.config import NetworkConfig
from birefnet.weights.checkpoint import load_checkpoint
from birefnet.weights.layouts import to_official
from birefnet.weights.save import save_directory
from official import NETWORKS, official_shapes
from reference.fill import fill, image

# As https://huggingface.co/ZhengPeng7/BiRefNet has it: not a word on the architecture.
OFFICIAL_CONFIG = {
    "_name_or_path": "ZhengPeng7/BiRefNet",
    "architectures": ["BiRefNet"],
    "auto_map": {
        "AutoConfig": "BiRefNet_config.BiRefNetConfig",
        "AutoModelForImageSegmentation": "birefnet.BiRefNet",
    },
    "custom_pipelines": {
        "image-segmentation": {"pt": ["AutoModelForImageSegmentation"], "tf": [], "type": "image"}
    },
    "bb_pretrained": False,
}


def official_repository(folder: Path, name: str) -> Path:
    """A directory as the official ones are, code included, with the reference's weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        key: torch.from_numpy(fill(key, shape))
        for key, shape in official_shapes(name).items()
        if not key.endswith(("num_batches_tracked", "relative_position_index"))
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(OFFICIAL_CONFIG))
    for code in ("birefnet.py", "BiRefNet_config.py"):
        (folder / code).write_text("raise SystemExit('remote code was run')")
    return folder


@pytest.fixture(scope="module")
def tiny() -> BiRefNetForImageSegmentation:
    torch.manual_seed(0)
    preprocess = Preprocess(96, 64).to_dict()
    config = BiRefNetConfig(network="tiny", preprocess=preprocess, licence="MIT", source="a test")
    return BiRefNetForImageSegmentation(config).eval()


@pytest.fixture(scope="module")
def directory(tiny: BiRefNetForImageSegmentation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny.save_pretrained(folder)
    return folder


def batch(count: int = 1) -> torch.Tensor:
    return torch.from_numpy(image("transformers", count, 64, 96))


def logits(model: nn.Module, x: torch.Tensor | None = None) -> torch.Tensor:
    with torch.inference_mode():
        output = model(batch() if x is None else x)
    return output if isinstance(output, torch.Tensor) else output[-1]


@pytest.mark.parametrize(
    "name", ["pvt_v2_b0", pytest.param("swin_v1_t", marks=pytest.mark.slow), "variant_aspp_plain"]
)
def test_official_repositories_load_without_their_code(name: str, tmp_path: Path) -> None:
    folder = official_repository(tmp_path / "BiRefNet", name)
    model = BiRefNetForImageSegmentation.from_pretrained(folder)
    expected = np.load(NETWORKS / f"{name}.npz")
    case = min(key.split("/")[0] for key in expected if not key.startswith("train"))
    wanted = expected[f"{case}/logits"]
    x = torch.from_numpy(image(case, wanted.shape[0], *wanted.shape[2:]))
    output = logits(model, x)
    assert np.abs(output.numpy() - wanted).max() < 1e-4 * np.abs(wanted).max()
    assert torch.equal(output, logits(load_checkpoint(folder).network, x))
    assert model.config.network["backbone"] == ("swin_v1_t" if name == "swin_v1_t" else "pvt_v2_b0")
    assert not model.training


def test_what_an_official_repository_becomes(tmp_path: Path) -> None:
    """Saved anew it says what it is, and Auto classes load it without asking for remote code."""
    folder = official_repository(tmp_path / "BiRefNet", "pvt_v2_b0")
    model = BiRefNetForImageSegmentation.from_pretrained(folder)
    model.save_pretrained(tmp_path / "anew")
    again = AutoModelForImageSegmentation.from_pretrained(tmp_path / "anew")
    assert type(again) is BiRefNetForImageSegmentation
    assert torch.equal(logits(again), logits(model))
    plain = {k for k in official_shapes("pvt_v2_b0") if not k.endswith("position_index")}
    assert set(load_file(tmp_path / "anew" / "model.safetensors")) == plain


def test_outputs_are_indexed_as_the_official_ones(tiny: BiRefNetForImageSegmentation) -> None:
    with torch.inference_mode():
        output = tiny(batch(2))
    assert isinstance(output, BiRefNetOutput)
    assert output.logits.shape == (2, 1, 64, 96)
    assert output[-1] is output[0] is output["logits"] is output.logits
    assert torch.equal(output[-1], logits(tiny.network, batch(2)))
    assert output[-1].sigmoid().cpu()[0].squeeze().shape == (64, 96)
    assert list(output) == ["logits"]
    pair = tiny(pixel_values=batch(), return_dict=False)
    assert isinstance(pair, tuple)
    assert len(pair) == 1


def test_directories_are_read_by_everything(
    tiny: BiRefNetForImageSegmentation, directory: Path
) -> None:
    names = sorted(p.name for p in directory.iterdir())
    assert names == ["config.json", "model.safetensors", "preprocessor_config.json"]
    model, info = BiRefNetForImageSegmentation.from_pretrained(directory, output_loading_info=True)
    assert not any(info.values())
    assert type(AutoConfig.from_pretrained(directory)) is BiRefNetConfig
    assert type(AutoModel.from_pretrained(directory)) is BiRefNetForImageSegmentation
    for key, value in tiny.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key
    own = load_checkpoint(directory)
    assert torch.equal(logits(own.network), logits(model))
    assert (own.licence, own.source, own.config.backbone) == (
        *("MIT", "a test"),
        "efficientnet_lite0",
    )
    predictor = birefnet.load(directory, engine="torch", device="cpu")
    assert predictor.preprocess == Preprocess(96, 64)


def test_this_package_s_directories_load(tmp_path: Path) -> None:
    network = build_network("tiny").eval()
    for layout in ("birefnet", "huggingface"):
        save_directory(tmp_path / layout, network, Preprocess(64, 64), licence="X", layout=layout)  # type: ignore[arg-type]
        model = BiRefNetForImageSegmentation.from_pretrained(tmp_path / layout)
        assert torch.allclose(logits(model), logits(network), atol=1e-6)
        assert model.config.licence == "X"
        assert model.config.preprocess_config == Preprocess(64, 64)
    auto = AutoModelForImageSegmentation.from_pretrained(tmp_path / "huggingface")
    assert type(auto) is BiRefNetForImageSegmentation


def test_plain_files_and_names_load(directory: Path, tmp_path: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    alone = tmp_path / "alone.safetensors"
    save_file(tensors, alone)
    model = BiRefNetForImageSegmentation.from_pretrained(alone)
    assert model.config.network["stage_channels"] == [16, 16, 8, 8]
    assert torch.equal(
        logits(model), logits(BiRefNetForImageSegmentation.from_pretrained(directory))
    )
    nano = BiRefNetForImageSegmentation.from_pretrained("nano")
    assert torch.equal(logits(nano), logits(load_checkpoint("nano").network))
    assert nano.config.name == "nano"
    config = BiRefNetConfig.from_pretrained("lite-2k")  # known without a download
    assert config.network_config == NetworkConfig("swin_v1_t")
    assert (config.preprocess_config.width, config.preprocess_config.height) == (2560, 1440)


def test_state_dicts_carry_official_names_and_take_both(tiny: BiRefNetForImageSegmentation) -> None:
    state = tiny.state_dict()
    assert list(state) == list(to_official(tiny.network.state_dict()))
    for given in (state, tiny.network.state_dict()):
        other = BiRefNetForImageSegmentation(tiny.config).eval()
        other.load_state_dict(given)
        assert torch.equal(logits(other), logits(tiny))
    wrapped = nn.ModuleDict({"module": BiRefNetForImageSegmentation(tiny.config).eval()})
    assert list(wrapped.state_dict()) == [f"module.{key}" for key in state]
    wrapped.load_state_dict({f"module.{key}": value for key, value in state.items()})
    assert torch.equal(logits(wrapped["module"]), logits(tiny))
    broken = {key: value for key, value in state.items() if "conv_out1" not in key}
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({**broken, "bb.nothing": state["bb.stem.conv.weight"]})


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (None, torch.float32),
        ("auto", torch.float16),
        ("bfloat16", torch.bfloat16),
        (torch.float64, torch.float64),
    ],
)
def test_precision(dtype: Any, expected: torch.dtype) -> None:
    for name in ("dtype", "torch_dtype"):
        model = BiRefNetForImageSegmentation.from_pretrained("nano", **{name: dtype})
        assert model.dtype == expected
        kinds = {t.dtype for t in model.state_dict().values() if t.is_floating_point()}
        assert kinds == {expected}


def test_half_weights_are_saved_as_such(tmp_path: Path) -> None:
    model = BiRefNetForImageSegmentation.from_pretrained("nano").half()
    model.save_pretrained(tmp_path)
    again = BiRefNetForImageSegmentation.from_pretrained(tmp_path, dtype="auto")
    assert again.dtype == torch.float16
    assert load_checkpoint(tmp_path).stored_dtype == torch.float16


def test_meta_device(tiny: BiRefNetForImageSegmentation, directory: Path) -> None:
    with torch.device("meta"):
        model = BiRefNetForImageSegmentation(tiny.config).eval()
    assert {t.device.type for t in model.parameters()} == {"meta"}
    assert model(torch.empty(3, 3, 64, 96, device="meta")).logits.shape == (3, 1, 64, 96)
    model.load_state_dict(load_file(directory / "model.safetensors"), assign=True)
    assert torch.allclose(logits(model), logits(tiny), atol=1e-6)


def test_device_map(tiny: BiRefNetForImageSegmentation, directory: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    load = BiRefNetForImageSegmentation.from_pretrained
    expected = logits(load(directory))
    for device_map in ("cpu", {"": "cpu"}, torch.device("cpu"), "auto"):
        model = load(directory, device_map=device_map, low_cpu_mem_usage=True)
        assert torch.equal(logits(model), expected)
    on_meta = load(directory, device_map="meta")
    assert on_meta.device.type == "meta"
    parts = {"network.encoder": "disk", "network.squeeze": "cpu", "network.decoder": "disk"}
    offloaded = load(directory, device_map=parts, offload_folder=str(tmp_path / "off"))
    assert offloaded.network.decoder.head.weight.device.type == "meta"
    assert torch.allclose(logits(offloaded), expected, atol=1e-6)
    with pytest.raises(DeviceError, match="must be all of"):
        load(directory, device_map={"network.encoder": "disk"}, offload_folder=str(tmp_path))


def test_refusals(directory: Path, tmp_path: Path) -> None:
    load = BiRefNetForImageSegmentation.from_pretrained
    with pytest.raises(WeightsError, match="did you mean"):
        load("generall")
    torch.save(load_file(directory / "model.safetensors"), tmp_path / "model.pth")
    with pytest.raises(WeightsError, match=r"only \.safetensors are read"):
        load(tmp_path)
    with pytest.raises(WeightsError, match=r"only \.safetensors are read"):
        load("toonout", local_files_only=True)
    with pytest.raises(ValueError, match="takes no 'atention'"):
        load(directory, atention="eager")
    with pytest.raises(ValueError, match="quantised"):
        load(directory, quantization_config={"load_in_8bit": True})
    with pytest.raises(DeviceError, match="dtype is 'int8'"):
        load(directory, dtype="int8")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="is a bert model"):
        load(tmp_path / "bert")
    with pytest.raises(ValueError, match="no preset"):
        BiRefNetConfig(network="swin_v9")
    with pytest.raises(ValueError, match=r"only \.safetensors are written"):
        load(directory).save_pretrained(tmp_path / "x", safe_serialization=False)
    with pytest.raises(ValueError, match="names no architecture"):
        BiRefNetForImageSegmentation(BiRefNetConfig(network=None))


def test_weights_of_another_shape_are_refused(directory: Path) -> None:
    config = BiRefNetConfig(network="nano")
    with pytest.raises(WeightsError, match="do not fit"):
        BiRefNetForImageSegmentation.from_pretrained(directory, config=config)


def test_configurations_survive_json(tmp_path: Path) -> None:
    config = BiRefNetConfig(network=NetworkConfig("pvt_v2_b1", attention="plain"), name="mine")
    config.save_pretrained(tmp_path)
    again = BiRefNetConfig.from_pretrained(tmp_path)
    assert again.network_config == config.network_config
    assert again.name == "mine"
    changed, rest = BiRefNetConfig.from_pretrained(
        tmp_path, name="other", nonsense=1, return_unused_kwargs=True
    )
    assert (changed.name, rest) == ("other", {"nonsense": 1})
    assert "auto_map" not in json.loads((tmp_path / "config.json").read_text())
    official = BiRefNetConfig(network="swin_v1_l").to_dict()
    assert official["auto_map"]["AutoModelForImageSegmentation"] == (
        "ZhengPeng7/BiRefNet--birefnet.BiRefNet"
    )


def test_sharded_weights(tiny: BiRefNetForImageSegmentation, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path, max_shard_size="4MB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    again = BiRefNetForImageSegmentation.from_pretrained(tmp_path)
    assert torch.allclose(logits(again), logits(tiny), atol=1e-6)
    tiny.save_pretrained(tmp_path / "variant", variant="fp32")
    again = BiRefNetForImageSegmentation.from_pretrained(tmp_path / "variant", variant="fp32")
    assert torch.allclose(logits(again), logits(tiny), atol=1e-6)


def test_labels_give_a_loss_that_learns(tiny: BiRefNetForImageSegmentation) -> None:
    torch.manual_seed(0)
    model = BiRefNetForImageSegmentation(tiny.config).train()
    labels = torch.zeros(2, 64, 96)
    labels[:, 16:48, 24:72] = 1
    x = batch(2)
    out = model(pixel_values=x, labels=labels)
    assert list(out) == ["loss", "stages", "gradients", "logits"]
    assert out[-1] is out.logits
    assert [tuple(s.shape[2:]) for s in out.stages] == [(2, 3), (4, 6), (8, 12)]
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    first = None
    for _ in range(8):
        loss = model(x, labels=labels.unsqueeze(1)).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        first = first or loss.item()
    assert loss.item() < 0.8 * first
    with pytest.raises(ValueError, match="got labels of shape"):
        model(x, labels=labels[:, :32])


def test_gradient_checkpointing_changes_no_gradient(tiny: BiRefNetForImageSegmentation) -> None:
    gradients = []
    for is_on in (False, True):
        model = BiRefNetForImageSegmentation(tiny.config)
        model.load_state_dict(tiny.state_dict())
        if is_on:
            model.gradient_checkpointing_enable()
        assert any(getattr(m, "gradient_checkpointing", False) for m in model.modules()) == is_on
        model.train()
        torch.manual_seed(0)
        model(batch(2), labels=torch.ones(2, 64, 96)).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_a_predictor_of_the_same_weights(tiny: BiRefNetForImageSegmentation) -> None:
    predictor = tiny.predictor(device="cpu")
    matte = predictor.predict(np.full((40, 60, 3), 90, np.uint8))
    assert matte.alpha.shape == (40, 60)
    assert predictor.preprocess == Preprocess(96, 64)
    assert predictor.licence == "MIT"
