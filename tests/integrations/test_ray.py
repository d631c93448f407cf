"""`birefnet remove --engine ray` on a local cluster of two nodes, one of which is lost."""

from __future__ import annotations

import json
import os
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from birefnet.cli.main import main
from birefnet.imaging.geometry import Preprocess
from birefnet.imaging.io import decode
from birefnet.network.build import build_network
from birefnet.network.config import preset
from birefnet.weights import save_directory
from fakes import write_disc

ray = pytest.importorskip("ray")
pytest.importorskip("pyarrow")

SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network with random weights, as a folder that each node can load."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    save_directory(folder, build_network(preset("tiny")), Preprocess(64, 64), name="tiny")
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without processors, and two nodes with one each."""
    from ray.cluster_utils import Cluster

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(SOURCE)  # the nodes inherit it
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    made.nodes = [made.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=made.address, log_to_driver=False, logging_level="error")
    yield made
    ray.shutdown()
    made.shutdown()
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before


def remove(*arguments: object) -> int:
    """`birefnet remove … --engine ray`, in this process, which is connected to the cluster."""
    before = sys.argv
    sys.argv = ["birefnet", "remove", *map(str, arguments), "--engine", "ray"]
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        sys.argv = before
    return int(end.value.code or 0)


def entries(manifest: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_a_table_to_files(cluster, model: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pictures = [write_disc(tmp_path / f"{index}.png", ground=index) for index in range(3)]
    column = [*(path.read_bytes() for path in pictures), b"no picture"]
    names = ["a/first.jpg", "../b", "c", "d"]
    table = tmp_path / "shop.parquet"
    pq.write_table(pa.table({"photo": column, "name": names}), table)
    out = tmp_path / "out"
    options = ("--column", "photo", "--name-column", "name", "-m", model)
    assert remove(table, "-o", out, *options) == 1
    made = sorted(p.relative_to(out).as_posix() for p in out.rglob("*.png"))
    assert made == ["a/first.png", "b.png", "c.png"]
    assert decode(out / "b.png").pixels.shape == (48, 64, 3)
    manifest = {Path(entry["input"]).name: entry for entry in entries(out / "manifest.jsonl")}
    assert manifest["shop.parquet#d"]["status"] == "failed"
    assert manifest["shop.parquet#c"]["width"] == 64
    (out / "c.png").unlink()
    assert remove(table, "-o", out, *options) == 1  # d again, and what was lost
    assert len(entries(out / "manifest.jsonl")) == 4 + 2
    # As a table
    assert remove(table, "-o", tmp_path / "made.parquet", "--column", "photo", "-m", model) == 1
    rows = pq.read_table(tmp_path / "made.parquet").to_pylist()
    assert sorted(row["status"] for row in rows) == ["done"] * 3 + ["failed"]
    assert all(decode(row["cutout"]) for row in rows if row["status"] == "done")
    assert {row["name"] for row in rows} == set(names)


@pytest.mark.slow
def test_shards_to_files(cluster, model: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        for name in ("one", "two"):
            shard.add(write_disc(tmp_path / f"{name}.jpg"), f"{name}.jpg")
    assert remove(tmp_path / "shard.tar", "-o", tmp_path / "out", "-m", model, "-t", "mask") == 0
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == ["one.png", "two.png"]


def test_a_lost_node_loses_nothing(
    cluster, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from birefnet.cli.remove import ray_cluster as work

    monkeypatch.setattr(work, "BLOCK", 4)
    count = 120
    for index in range(count):
        write_disc(tmp_path / "in" / f"{index % 3}" / f"{index}.png")
    (tmp_path / "in" / "broken.png").touch()
    out = tmp_path / "out"

    def lose_a_node() -> None:
        while len(list(out.rglob("*.png"))) < 20:
            time.sleep(0.05)
        cluster.remove_node(cluster.nodes[0], allow_graceful=False)

    helper = threading.Thread(target=lose_a_node)
    helper.start()
    assert remove(tmp_path / "in", "-o", out, "-m", model) == 1
    helper.join()
    assert len(list(out.rglob("*.png"))) == count
    manifest = entries(out / "manifest.jsonl")
    assert [entry["status"] for entry in manifest].count("done") == count
    assert len({entry["input"] for entry in manifest}) == count + 1
    for _ in range(300):  # until Ray has noticed: the head, and the node that is left
        if sum(node["Alive"] for node in ray.nodes()) == 2:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the lost node counts as alive")
    assert remove(tmp_path / "in", "-o", out, "-m", model) == 1  # only the broken one
    assert len(entries(out / "manifest.jsonl")) == count + 2


def test_an_error_of_a_node_is_one_sentence(
    cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = write_disc(tmp_path / "a.png")
    (tmp_path / "model").mkdir()
    assert remove(picture, "-o", tmp_path / "out/", "-m", tmp_path / "model") == 1
    message = capsys.readouterr().err
    assert message.startswith("Error: the cluster cannot do this: ")
    assert "model" in message
    assert message.count("\n") == 1


def test_what_makes_no_sense(cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = write_disc(tmp_path / "a.png")
    assert remove(picture, "-o", "-") == 2
    assert remove(picture, "--column", "x") == 2
    assert remove(picture, "-o", tmp_path / "out/", "--device", "cuda") == 1
    assert "no node of the cluster has a GPU" in capsys.readouterr().err


def test_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert remove(write_disc(tmp_path / "a.png"), "-o", tmp_path / "out/") == 1
    assert 'pip install "birefnet[ray]"' in capsys.readouterr().err
