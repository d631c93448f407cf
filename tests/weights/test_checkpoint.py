"""Whole networks: loaded from every layout, by every kind of name, bit by bit the same."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from birefnet.errors import UsageError, WeightsError
from birefnet.imaging.geometry import Preprocess
from birefnet.network.backbones import BACKBONES
from birefnet.network.birefnet import BiRefNet
from birefnet.network.build import build_network, empty_network
from birefnet.network.config import NetworkConfig, preset
from birefnet.weights import catalogue
from birefnet.weights import checkpoint as checkpoint_module
from birefnet.weights.catalogue import CHECKPOINTS, PARAMETERS, Checkpoint, lookup
from birefnet.weights.checkpoint import Loaded, load_checkpoint
from birefnet.weights.convert import convert
from birefnet.weights.layouts import to_official
from birefnet.weights.locate import bundled_names
from birefnet.weights.save import official_code, save_directory
from birefnet.weights.save import save_file as save_one

TINY = preset("tiny")
PREPROCESS = Preprocess(width=256, height=192)


@pytest.fixture(autouse=True)
def environment(own_caches: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIREFNET_OFFLINE", "1")


@pytest.fixture(scope="module")
def network() -> BiRefNet:
    torch.manual_seed(0)
    made = build_network(TINY)
    for name, buffer in made.named_buffers():  # so that no tensor has its initial value
        if name.endswith("running_mean"):
            buffer.normal_()
        elif name.endswith("num_batches_tracked"):
            buffer.fill_(7)
    return made.eval()


def identical(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        a.dtype == other[k].dtype and torch.equal(a, other[k]) for k, a in one.items()
    )


def as_loaded(loaded: Loaded, network: BiRefNet) -> bool:
    return identical(loaded.network.state_dict(), network.state_dict())


def test_a_directory_of_ours(network: BiRefNet, tmp_path: Path) -> None:
    folder = save_directory(
        tmp_path / "mine",
        network,
        PREPROCESS,
        licence="CC0",
        source="a test",
        extra={"scores": {"IoU": 0.5}},
    )
    loaded = load_checkpoint(folder)
    assert as_loaded(loaded, network)
    assert loaded.config == TINY  # dropout too, which shapes cannot tell
    assert loaded.preprocess == PREPROCESS
    assert (loaded.name, loaded.licence, loaded.source) == ("mine", "CC0", "a test")
    assert loaded.path == folder / "model.safetensors"
    assert not loaded.network.training
    assert all(p.requires_grad for p in loaded.network.parameters())
    assert json.loads((folder / "config.json").read_text())["scores"] == {"IoU": 0.5}
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    for path in (str(folder), folder / "model.safetensors", f"{folder}/"):
        assert load_checkpoint(path).preprocess == PREPROCESS


def test_the_network_computes_as_before(network: BiRefNet, tmp_path: Path) -> None:
    loaded = load_checkpoint(save_directory(tmp_path / "mine", network))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.network(image), network(image))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_official_files_of_every_precision(
    network: BiRefNet, dtype: torch.dtype, suffix: str, tmp_path: Path
) -> None:
    state = {
        k: v.to(dtype) if v.is_floating_point() else v for k, v in network.state_dict().items()
    }
    official = to_official(state)
    path = tmp_path / f"anything{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{k}": v for k, v in official.items()}}, path)
    else:
        save_file(official, path)
    kept = load_checkpoint(path, dtype=None)
    assert identical(kept.network.state_dict(), state)
    assert kept.stored_dtype == dtype
    assert kept.config == replace(TINY, dropout=0.5)
    assert kept.preprocess == Preprocess()
    ready = load_checkpoint(path)
    assert {p.dtype for p in ready.network.parameters()} == {torch.float32}
    assert ready.stored_dtype == dtype
    assert ready.name == "anything"


def test_a_directory_of_others_ignores_their_config(network: BiRefNet, tmp_path: Path) -> None:
    save_file(to_official(network.state_dict()), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps({"architectures": ["BiRefNet"], "auto_map": {"AutoConfig": "evil.Code"}})
    )
    (tmp_path / "evil.py").write_text("raise SystemExit('was run')")
    assert as_loaded(load_checkpoint(tmp_path), network)


def test_split_weights(network: BiRefNet, tmp_path: Path) -> None:
    state = to_official(network.state_dict())
    names = sorted(state)
    parts = {"a.safetensors": names[:100], "b.safetensors": names[100:]}
    for part, inside in parts.items():
        save_file({n: state[n] for n in inside}, tmp_path / part)
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {n: part for part, inside in parts.items() for n in inside}})
    )
    assert as_loaded(load_checkpoint(tmp_path), network)
    save_file({n: state[n] for n in names[90:]}, tmp_path / "b.safetensors")
    with pytest.raises(WeightsError, match=r"b\.safetensors repeats"):
        load_checkpoint(tmp_path)


def test_a_configuration_can_be_given(network: BiRefNet, tmp_path: Path) -> None:
    added = build_network(replace(TINY, image_pyramid="add"))
    path = tmp_path / "add.safetensors"
    save_file(to_official(added.state_dict()), path)
    assert load_checkpoint(path).config.image_pyramid == "none"
    config = replace(TINY, image_pyramid="add")
    assert load_checkpoint(path, config=config).config == config


def spoil(state: dict[str, Tensor], how: str) -> dict[str, Tensor]:
    head = "decoder.head.weight"
    if how == "missing":
        return {k: v for k, v in state.items() if ".outward.norm." not in k}
    if how == "unexpected":
        return {**state, "decoder.one": torch.ones(1), "other.two": torch.ones(1)}
    if how == "shape":
        return {**state, head: state[head][:, :3].contiguous()}
    return {**state, head: state[head].to(torch.int8)}


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("missing", r"12 missing \(decoder\.stages\.0\.outward\.norm\.weight, .*, …\)"),
        ("unexpected", r"2 unexpected \(decoder\.one, other\.two\)"),
        ("shape", r"1 of another shape \(decoder\.head\.weight is 1x3x1x1 in place of 1x\d+x1x1\)"),
        ("integers", r"1 of another type \(quantised .*\) \(decoder\.head\.weight is int8\)"),
    ],
)
def test_loading_is_strict(how: str, told: str, network: BiRefNet, tmp_path: Path) -> None:
    path = tmp_path / "spoilt.safetensors"
    save_file(spoil(network.state_dict(), how), path)
    with pytest.raises(WeightsError, match=rf"spoilt do not fit a efficientnet_lite0.*{told}"):
        load_checkpoint(path)


def test_what_the_network_computes_itself_may_be_missing(network: BiRefNet, tmp_path: Path) -> None:
    path = tmp_path / "lean.safetensors"
    state = network.state_dict()
    save_file({k: v for k, v in state.items() if "num_batches" not in k}, path)
    assert load_checkpoint(path).network.state_dict()["squeeze.norm_in.num_batches_tracked"] == 0
    save_file({k: v.float() for k, v in state.items()}, path)
    assert as_loaded(load_checkpoint(path), network)


@pytest.mark.parametrize("layout", ["birefnet", "huggingface", "safetensors", "pth"])
@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_converting_there_and_back_keeps_every_bit(
    layout: str, dtype: torch.dtype | None, network: BiRefNet, tmp_path: Path
) -> None:
    first = save_directory(tmp_path / "first", network, PREPROCESS, licence="CC0", dtype=dtype)
    target = tmp_path / ("there" + (f".{layout}" if layout in ("pth", "safetensors") else ""))
    there = convert(first, target, layout=layout)  # type: ignore[arg-type]
    back = convert(there, tmp_path / "back")
    one, other = (load_file(f / "model.safetensors") for f in (first, back))
    assert identical(one, other)
    loaded = load_checkpoint(there)
    if layout != "pth":  # which has no room for it
        assert loaded.preprocess == PREPROCESS
        assert (loaded.licence, loaded.config) == ("CC0", TINY)
    if layout != "birefnet":
        inside = load_checkpoint(there, dtype=None)
        file = there if there.is_file() else there / "model.safetensors"
        names = torch.load(file) if layout == "pth" else load_file(file)
        assert identical(dict(names), to_official(inside.network.state_dict()))


def test_an_official_file_on_dinov3_there_and_back(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    config = replace(TINY, backbone=preset("dino_v3_s").backbone, neck_channels=(8, 8, 16, 16))
    network = build_network(config).half()
    official = to_official(network.state_dict())
    assert "decoder.pyramid_neck_x4.conv.weight" in official
    assert "bb.model.reg_token" in official
    torch.save({f"module._orig_mod.{k}": v for k, v in official.items()}, tmp_path / "given.pth")
    ours = convert(tmp_path / "given.pth", tmp_path / "ours")
    assert load_checkpoint(ours).config == replace(config, dropout=NetworkConfig().dropout)
    back = torch.load(convert(ours, tmp_path / "back.pth"))
    assert identical(dict(back), official)


def test_other_precisions_on_request(network: BiRefNet, tmp_path: Path) -> None:
    first = save_directory(tmp_path / "first", network)
    half = convert(first, tmp_path / "half.safetensors", dtype=torch.float16)
    for name, tensor in load_file(half).items():
        assert tensor.dtype == (torch.int64 if "num_batches" in name else torch.float16)
    large = build_network(TINY)
    with torch.no_grad():
        large.decoder.head.bias.fill_(1e6)  # type: ignore[union-attr]
    with pytest.raises(
        WeightsError, match=r"decoder\.head\.bias holds numbers too large for float16"
    ):
        save_directory(tmp_path / "large", large, dtype=torch.float16)


def test_the_huggingface_layout_serves_transformers(tmp_path: Path) -> None:
    if "swin_v1_t" not in BACKBONES:
        pytest.skip("this backbone is not there")
    config = replace(TINY, backbone="swin_v1_t")
    network = build_network(config)
    folder = save_directory(tmp_path / "hf", network, layout="huggingface", dtype=torch.float16)
    values = json.loads((folder / "config.json").read_text())
    assert values["architectures"] == ["BiRefNet"]
    assert "auto_map" not in values  # the official code cannot build a network of these widths
    assert official_code(preset("swin_v1_t"))["AutoModelForImageSegmentation"] == (
        "ZhengPeng7/BiRefNet_lite--birefnet.BiRefNet"
    )
    assert values["network"]["backbone"] == "swin_v1_t"
    assert values["torch_dtype"] == "float16"
    assert load_checkpoint(folder).config == config


def test_the_comfyui_layout(
    network: BiRefNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(WeightsError, match=r"knows Swin-L only .* efficientnet_lite0"):
        save_one(path, network, layout="comfyui")
    monkeypatch.setattr("birefnet.weights.save._COMFYUI_BACKBONE", "swin_v1_t")  # a smaller one
    if "swin_v1_t" not in BACKBONES:
        pytest.skip("this backbone is not there")
    swin = empty_network(replace(TINY, backbone="swin_v1_t"))
    values = {k: torch.full(t.shape, 0.5) for k, t in swin.state_dict().items() if t.is_meta}
    swin.load_state_dict(values, strict=False, assign=True)
    save_one(path, swin, layout="comfyui", dtype=torch.float16)
    names = load_file(path)
    assert names["bb.layers.1.blocks.0.attn.relative_position_index"].dtype == torch.int64
    assert identical(names, to_official(load_checkpoint(path, dtype=None).network.state_dict()))
    save_file({k: v for k, v in names.items() if "relative_position_index" not in k}, path)
    again = load_checkpoint(path, dtype=None).network  # it computes them anew
    assert identical(names, to_official(again.state_dict()))


def test_targets_are_not_overwritten_by_accident(network: BiRefNet, tmp_path: Path) -> None:
    first = save_directory(tmp_path / "first", network)
    for target in (tmp_path / "second", tmp_path / "second.pth"):
        convert(first, target)
        with pytest.raises(UsageError, match="already there"):
            convert(first, target)
        convert(first, target, overwrite=True)
    with pytest.raises(ValueError, match="choose one of birefnet, huggingface, safetensors"):
        convert(first, tmp_path / "x", layout="onnx")  # type: ignore[arg-type]
    blocked = tmp_path / "file"
    blocked.touch()
    for target in (blocked / "x.pth", blocked / "folder"):
        with pytest.raises(WeightsError, match="cannot write"):
            convert(first, target)


def test_a_failed_write_leaves_nothing(
    network: BiRefNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    before = save_directory(folder, network, name="before")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(WeightsError, match=r"cannot write .*No space left on device"):
        save_directory(folder, network, name="after")
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert load_checkpoint(before).name == "before"


def tabled(monkeypatch: pytest.MonkeyPatch, **fields: object) -> Checkpoint:
    """A checkpoint of tiny networks in the catalogue."""
    values = {"filename": "tiny-epoch_1.pth", "preset": "efficientnet_lite0", **fields}
    entry = Checkpoint(
        name="tiny-test",
        title="",
        task="general",
        kind="network",
        addresses=("https://example.test/tiny-epoch_1.pth",),
        size=(512, 512),
        **values,  # type: ignore[arg-type]
    )
    entries = {**CHECKPOINTS, entry.name: entry}
    index = {**catalogue._INDEX, "tiny-test": entry, "tiny-epoch_1": entry}
    monkeypatch.setattr(catalogue, "CHECKPOINTS", entries)
    monkeypatch.setattr(checkpoint_module, "CHECKPOINTS", entries)
    monkeypatch.setattr(catalogue, "_INDEX", index)
    return entry


def test_the_catalogue_tells_the_preprocessing(
    network: BiRefNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny-epoch_1.pth"
    torch.save(to_official(network.state_dict()), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = tabled(monkeypatch, bytes=path.stat().st_size, sha256=digest)
    by_name = load_checkpoint(path)
    assert (by_name.checkpoint, by_name.preprocess.width, by_name.licence) == (entry, 512, "MIT")
    renamed = shutil.copy(path, tmp_path / "renamed.pth")
    assert load_checkpoint(renamed).checkpoint == entry  # by its checksum
    in_cache = tmp_path / "cache" / "tiny-test" / "tiny-epoch_1.pth"
    in_cache.parent.mkdir(parents=True)
    shutil.copy(path, in_cache)
    loaded = load_checkpoint("Tiny-Test")
    assert (loaded.name, loaded.path, loaded.checkpoint) == ("tiny-test", in_cache, entry)
    # A name that promises another architecture is not believed.
    lite = shutil.copy(path, tmp_path / "BiRefNet_lite-2K.pth")
    monkeypatch.undo()
    assert load_checkpoint(lite, offline=True).checkpoint is None


def test_a_snapshot_of_any_repository_in_hugging_faces_cache(
    network: BiRefNet, tmp_path: Path
) -> None:
    root = tmp_path / "hub" / "hub" / "models--someone--their-net"
    snapshot = root / "snapshots" / ("b" * 40)
    save_directory(snapshot, network, PREPROCESS)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("b" * 40)
    loaded = load_checkpoint("someone/their-net")
    assert as_loaded(loaded, network)
    assert loaded.name == "someone/their-net"
    assert load_checkpoint(f"someone/their-net@{'b' * 40}").preprocess == PREPROCESS
    with pytest.raises(WeightsError, match="someone/else is not in the cache"):
        load_checkpoint("someone/else")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("genral", "did you mean general"),
        ("zzzzzz", "there are .*general, lite"),
        ("./general", "no file or directory ./general"),
        ("weights/none.pth", "no file or directory weights/none.pth"),
        ("none.pth", "no file or directory none.pth"),
        ("general", "general is not in .* downloads are switched off"),
        ("ZhengPeng7/BiRefNet_HR", "hr is not in .* downloads are switched off"),
        ("BiRefNet-general-epoch_244.onnx", "is an ONNX file"),
        ("backbone-swin_v1_t", "is a backbone to start training from"),
    ],
)
def test_names_that_lead_nowhere(name: str, told: str) -> None:
    with pytest.raises(WeightsError, match=told) as caught:
        load_checkpoint(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format_version": 2}, "upgrade it"),
        ({"network": {"backbones": 3}}, "unknown network settings"),
        ({"network": {"attention": "magic"}}, "attention='magic' is unknown"),
        ({"preprocess": {"widht": 3}}, "widht"),
        ("{not json", "not valid JSON"),
        ("[1, 2]", "should hold a JSON object"),
    ],
)
def test_a_wrong_configuration_is_told(
    change: dict[str, object] | str, told: str, network: BiRefNet, tmp_path: Path
) -> None:
    folder = save_directory(tmp_path / "mine", network)
    config = folder / "config.json"
    if isinstance(change, dict):
        config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    else:
        config.write_text(change)
    with pytest.raises(WeightsError, match=told) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)


def test_bundled_networks_need_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BIREFNET_CACHE", str(tmp_path / "absent"))
    for name in bundled_names():
        loaded = load_checkpoint(name)
        assert loaded.name == name
        assert loaded.licence
    assert not (tmp_path / "absent").exists()


def test_the_table_is_whole() -> None:
    for name, checkpoint in CHECKPOINTS.items():
        assert lookup(name) is checkpoint
        assert checkpoint.addresses
        assert checkpoint.data
        assert all(a.startswith("https://") for a in checkpoint.addresses)
        assert all(a.endswith(checkpoint.filename) for a in checkpoint.addresses)
        if checkpoint.sha256:
            assert len(checkpoint.sha256) == 64
        if checkpoint.kind == "network":
            assert checkpoint.preset in PARAMETERS
        assert checkpoint.preprocess.to_dict()
    assert CHECKPOINTS["lite-2k"].preprocess == Preprocess(width=2560, height=1440)
    assert CHECKPOINTS["dynamic"].preprocess.fit == "native"
    for alias, name in {
        "zhengpeng7/birefnet": "general",
        "ZhengPeng7/BiRefNet_HR-matting": "hr-matting",
        "BiRefNet_dynamic": "dynamic",
        "BiRefNet-COD-epoch_125.pth": "BiRefNet-COD-epoch_125",
        "briaai/RMBG-2.0": "rmbg-2.0",
    }.items():
        found = lookup(alias)
        assert found is not None
        assert found.name == name


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_counted_right(name: str) -> None:
    if name not in BACKBONES:
        pytest.skip("this backbone is not there")
    network = empty_network(NetworkConfig(backbone=name))
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]


def test_the_table_is_read_without_torch() -> None:
    script = (
        "import sys, birefnet.weights, birefnet.weights.catalogue, birefnet.cli.models;"
        "birefnet.weights.CHECKPOINTS['general'];"
        "print(sorted({'torch', 'cv2', 'PIL', 'numpy', 'rich'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    told = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "[]"
