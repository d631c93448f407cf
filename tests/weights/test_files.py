"""Reading files of weights: every wrapping, every damage, and nothing hostile is ever run."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from birefnet.errors import WeightsError
from birefnet.weights.files import read_weights, sniff
from birefnet.weights.locate import find_weights

STATE = {
    "bb.a.weight": torch.arange(6.0).reshape(2, 3),
    "decoder.b": torch.ones(4, dtype=torch.half),
}


def same(actual: dict[str, torch.Tensor]) -> bool:
    return set(actual) == set(STATE) and all(
        torch.equal(actual[k], v) and actual[k].dtype == v.dtype for k, v in STATE.items()
    )


@pytest.mark.parametrize(
    "wrapped",
    [
        STATE,
        OrderedDict(STATE),
        {"state_dict": STATE, "epoch": 3, "optimizer": {"state": {0: torch.ones(3)}}},
        {"model": {f"module.{k}": v for k, v in STATE.items()}},
        {"model_state_dict": {f"_orig_mod.module.{k}": v for k, v in STATE.items()}},
        {"net": {f"module._orig_mod.module.{k}": v for k, v in STATE.items()}},
        {f"module.bb._orig_mod.{k[3:]}" if k[0] == "b" else k: v for k, v in STATE.items()},
        {"state_dict": {f"model.{k}": v for k, v in STATE.items()}, "hyper_parameters": {"a": 1}},
        {"model": {k: v + 1 for k, v in STATE.items()}, "ema": {"module": STATE, "decay": 0.99}},
        {"model": STATE, "ema": {"bb.a.weight": torch.zeros(2, 3)}},  # an average without buffers
        {"n_averaged": torch.tensor(5), **{f"module.{k}": v for k, v in STATE.items()}},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_wrappers_and_prefixes_come_off(wrapped: object, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    torch.save(wrapped, path, _use_new_zipfile_serialization=zipped)
    assert same(read_weights(path).tensors)


def test_safetensors_and_its_metadata(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    save_file({f"module.{k}": v for k, v in STATE.items()}, path, metadata={"format": "pt"})
    read = read_weights(path)
    assert same(read.tensors)
    assert read.metadata == {"format": "pt"}


def test_the_content_decides_not_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "renamed.safetensors"
    torch.save(STATE, path)
    assert sniff(path) == "torch"
    assert same(read_weights(path).tensors)
    save_file(STATE, tmp_path / "renamed.pth")
    assert same(read_weights(tmp_path / "renamed.pth").tensors)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>not found</html>", "it is a web page"),
        (b"\n  <html>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS pointer"),
        (b'{"error": "Entry not found"}', "it is JSON text"),
        (b"GGUF\x03\x00\x00\x00", "GGUF"),
        (b"\x08\x08\x12\x07pytorch", "ONNX"),
        (b"just some text", "may be damaged"),
    ],
)
def test_other_files_are_named(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=told) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0.999, 0.9, 0.5, 0.05])
def test_truncated_files(keep: float, tmp_path: Path) -> None:
    state = {f"bb.{i}": torch.randn(64, 64) for i in range(8)}
    for name, write in (("a.pth", torch.save), ("a.safetensors", save_file)):
        path = tmp_path / name
        write(state, path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * keep)])
        with pytest.raises(WeightsError, match=r"damaged or incomplete") as caught:
            read_weights(path)
        assert "\n" not in str(caught.value)


def test_damaged_bytes_never_escape_as_other_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    random = torch.Generator().manual_seed(0)
    for zipped in (True, False):
        torch.save(STATE, path, _use_new_zipfile_serialization=zipped)
        content = bytearray(path.read_bytes())
        for _ in range(150):
            damaged = bytearray(content)
            for _ in range(3):
                at = int(torch.randint(len(damaged), (1,), generator=random))
                damaged[at] = int(torch.randint(256, (1,), generator=random))
            path.write_bytes(damaged)
            with contextlib.suppress(WeightsError):  # or it is read, if the damage is harmless
                read_weights(path)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot read .*No such file"):
        read_weights(tmp_path / "none.pth")


class Hostile:
    """Runs a command when it is unpickled by a careless reader."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_pickles_are_refused_and_not_run(zipped: bool, tmp_path: Path) -> None:
    marker, path = tmp_path / "was-run", tmp_path / "model.pth"
    torch.save({**STATE, "x": Hostile(marker)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"carries Python code .*system.* not opened further"):
        read_weights(path)
    assert not marker.exists()
    # The file is indeed hostile: the same pickle runs its command for a reader that trusts it.
    pickle.loads(pickle.dumps(Hostile(marker)))
    assert marker.exists()


def test_a_plain_pickle_is_refused(tmp_path: Path) -> None:
    marker, path = tmp_path / "was-run", tmp_path / "model.bin"
    path.write_bytes(pickle.dumps(Hostile(marker)))
    with pytest.raises(WeightsError):
        read_weights(path)
    assert not marker.exists()


def test_a_whole_module_or_its_arguments_are_refused_with_the_class_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(WeightsError, match=r"torch\.nn\.modules\.linear\.Linear"):
        read_weights(path)
    torch.save({"state_dict": STATE, "args": argparse.Namespace(lr=1)}, path)
    with pytest.raises(WeightsError, match=r"argparse\.Namespace"):
        read_weights(path)


def test_a_packed_archive_is_not_unpacked(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    path = tmp_path / "bomb.pth"
    with (
        zipfile.ZipFile(buffer) as plain,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for record in plain.namelist():
            packed.writestr(record, plain.read(record))
    with pytest.raises(WeightsError, match="compressed archive"):
        read_weights(path)


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], {"optimizer": {"state": {}}}, 5])
def test_no_tensors_by_name(content: object, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match="no network's weights by name"):
        read_weights(path)


def test_the_same_name_twice(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"bb.a": torch.ones(1), "module.bb.a": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"'bb\.a' twice"):
        read_weights(path)


def test_the_file_of_a_directory(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds no file of weights"):
        find_weights(tmp_path)
    (tmp_path / "a.pth").touch()
    assert find_weights(tmp_path) == [tmp_path / "a.pth"]
    (tmp_path / "b.pth").touch()
    with pytest.raises(WeightsError, match=r"several files of weights \(a\.pth, b\.pth\)"):
        find_weights(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert find_weights(tmp_path) == [tmp_path / "model.safetensors"]


def test_split_weights_stay_in_their_directory(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    for part in ("one.safetensors", "two.safetensors"):
        (tmp_path / part).touch()
    index.write_text(json.dumps({"weight_map": {"a": "two.safetensors", "b": "one.safetensors"}}))
    assert [p.name for p in find_weights(tmp_path)] == ["two.safetensors", "one.safetensors"]
    for outside in ("../secret.safetensors", "/etc/passwd", "absent.safetensors", 5, ["a"]):
        index.write_text(json.dumps({"weight_map": {"a": outside}}))
        with pytest.raises(WeightsError, match="not a file beside it"):
            find_weights(tmp_path)


def test_an_archive_that_asks_for_a_later_zip_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.zeros(2)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 204  # version needed, of the first record
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        read_weights(path)
