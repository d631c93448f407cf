"""Too large a picture: what the error names sets the limit, in every command and from Python."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from birefnet.errors import ImageError, UsageError
from birefnet.imaging.geometry import Preprocess
from birefnet.imaging.io import decode
from birefnet.imaging.picture import LIMIT_VARIABLE, Limits
from birefnet.network.build import build_network
from birefnet.weights.save import save_directory
from cli.test_exit_status import subcommands
from data_sets import photo, save
from fakes import disc, write_disc

TOO_FEW, ENOUGH = "0.15", "0.16"  # megapixels
SIZE = (320, 480)  # exporting compares with pictures of its own, of 300 x 400 pixels
NAMED = f"{LIMIT_VARIABLE} in the environment sets the limit, or --max-megapixels where"

READERS = {
    "remove": """
        a.png -o o.png | a.gif -o o.gif | small.png -b a.png -o o.png
        | small.png --guide a.png -o o.png | data/im -o out""",
    "export": "tiny -o o.onnx --size 64 --precision int8 --calibrate data/im",
    "bench": """
        tiny --engines onnx --precisions int8 --sizes 64 --rounds 1 --json --calibrate data/im""",
    "video": "frames -o o.webm | a.gif -o o.webm | small.gif -b a.png -o o.webm",
    "rembg i": "a.png o.png",
    "rembg p": "data/im out",
    "train": """
        --recipe finetune --init tiny -d data -o run --validate none --set schedule.epochs=1
        --set data.width=64 --set data.height=64 --set schedule.batch_size=1
        --set loop.trackers=none""",
    "data check": "data",
    "data preview": "data -o o.png --count 1 --size 32",
    "evaluate": "-p data/gt -t data/gt | -p data/gt -t data/gt --image data/im --sheet o.html",
    "benchmark": "--suite dis5k --data suite --out o",
    "explain": "a.png -o o.png --no-field",
}
"""The commands that read pictures, with `|` between two."""

SERVERS = {"serve", "ui", "rembg s"}
OTHERS = {
    "rembg b": "raw frames, of the size that is given",
    "reproduce": "runs the commands above",
    "select-best": "tables",
    **dict.fromkeys(("models list", "models info", "models download", "models convert"), "weights"),
    "rembg d": "weights",
    "doctor": "nothing",
}


def test_every_command_is_sorted() -> None:
    assert sorted([*READERS, *SERVERS, *OTHERS]) == sorted(subcommands())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    save_directory(root / "tiny", build_network("tiny").eval(), Preprocess(64, 64), name="tiny")
    return root


@pytest.fixture
def place(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_caches: None) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BIREFNET_OFFLINE", "1")
    monkeypatch.setenv("BIREFNET_MODEL", str(files / "tiny"))
    monkeypatch.setenv("BIREFNET_CACHE", str(files / "cache"))  # one graph for all commands
    (tmp_path / "tiny").symlink_to(files / "tiny")
    for root in ("data", "suite/DIS-VD"):
        for number in range(2):
            rgb, truth = photo(number, *SIZE)
            save(tmp_path / root / "im" / f"{number}.png", rgb)
            save(tmp_path / root / "gt" / f"{number}.png", truth)
    write_disc(tmp_path / "a.png", height=SIZE[0], width=SIZE[1])
    write_disc(tmp_path / "small.png")
    for name, size in (("a.gif", SIZE), ("small.gif", (48, 64))):
        frames = [Image.fromarray(disc(*size, ground=shade)) for shade in (20, 40)]
        frames[0].save(name, save_all=True, append_images=frames[1:], duration=80)
    shutil.copytree("data/im", "frames")
    return tmp_path


@pytest.mark.parametrize("name", READERS)
def test_what_the_error_names_works(
    name: str, place: Path, command: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in ("export", "bench"):
        pytest.importorskip("onnxruntime")
    for line in READERS[name].replace("\n        ", " ").split("|"):
        words = [*name.split(), *shlex.split(line)]
        monkeypatch.setenv(LIMIT_VARIABLE, TOO_FEW)
        result = command(*words)
        assert NAMED in result.stderr + result.stdout.decode(), line
        assert result.status in (1, 2), line
        if name == "bench":
            continue  # reads as export does, and takes 20 s
        shutil.rmtree("run", ignore_errors=True)
        monkeypatch.setenv(LIMIT_VARIABLE, ENOUGH)
        result = command(*words)
        assert result.status == 0, f"{line}\n{result.stderr}"
        assert "are accepted" not in result.stderr + result.stdout.decode(), line


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_of_a_server(
    name: str, place: Path, command: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gradio" if name == "ui" else "fastapi")
    from fastapi.testclient import TestClient

    from birefnet.serving import running

    answers = []

    def post(app: Any, *_: object, **__: object) -> None:
        with TestClient(app, base_url="http://127.0.0.1") as client:
            file = {"file": ("a.png", Path("a.png").read_bytes(), "image/png")}
            answers.append(client.post("/v1/remove", files=file))

    bind = running.bind
    monkeypatch.setattr(running, "bind", lambda host, port: bind("127.0.0.1", 0))
    monkeypatch.setattr(running, "run", post)
    monkeypatch.setenv(LIMIT_VARIABLE, TOO_FEW)
    assert command(*name.split()).status == 0
    assert NAMED in answers[-1].json()["error"]["message"]
    assert command(*name.split(), "--max-megapixels", ENOUGH).status == 0
    assert answers[-1].status_code == 200
    monkeypatch.setenv(LIMIT_VARIABLE, ENOUGH)
    assert command(*name.split()).status == 0
    assert answers[-1].status_code == 200


@pytest.mark.parametrize("line", ["a.png", "small.png -b a.png", "small.png --guide a.png"])
def test_the_option_goes_before_the_environment(
    line: str, place: Path, command: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("remove", *line.split(), "-o", "o.png", "--max-megapixels")
    monkeypatch.setenv(LIMIT_VARIABLE, ENOUGH)
    assert NAMED in command(*words, TOO_FEW).stderr
    monkeypatch.setenv(LIMIT_VARIABLE, TOO_FEW)
    assert command(*words, ENOUGH).status == 0


def test_from_python(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, TOO_FEW)
    with pytest.raises(ImageError, match=NAMED):
        decode("a.png")
    monkeypatch.setenv(LIMIT_VARIABLE, ENOUGH)
    assert decode("a.png").height == SIZE[0]
    assert Limits() == Limits.of_megapixels(float(ENOUGH))
    monkeypatch.delenv(LIMIT_VARIABLE)
    assert Limits() == Limits.of_megapixels(200)


@pytest.mark.parametrize("text", ["0", "-1", "many", "nan", "inf", "1e999"])
def test_no_number(
    text: str, place: Path, command: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, text)
    with pytest.raises(UsageError, match=f"{LIMIT_VARIABLE} is '{text}'; give a number"):
        Limits()
    for words in (("remove", "a.png", "-o", "o.png"), ("explain", "a.png", "-o", "o.png")):
        result = command(*words)
        assert result.status == 2
        assert LIMIT_VARIABLE in result.stderr
