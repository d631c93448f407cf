"""Every subcommand: 2 where the command makes no sense, 1 for work that failed; one sentence."""

from __future__ import annotations

import re
import shlex
import socket
import warnings
from pathlib import Path

import pytest
import typer
from PIL import Image

from birefnet.cli.main import app
from birefnet.cli.options import MAY_BE_EMPTY

SENSELESS = {
    "remove": """
        missing.jpg | a.jpg --model nosuch | a.jpg --model missing/w.pth | a.jpg --device gpu7
        a.jpg --dtype fp12 | a.jpg --engine nosuch | a.jpg --type nosuch | a.jpg -o o.xyz
        a.jpg --format xyz | a.jpg --background nosuch | a.jpg --matting nosuch | a.jpg --jobs 0
        a.jpg --shadow nosuch | a.jpg --guide missing.png | a.jpg --box 1,2 | a.jpg --point x
        a.jpg --aspect x | a.jpg --crop-margin x | a.jpg --resolution x | a.jpg --watch -o o.png
        a.jpg --refine-passes 7 | a.jpg -o - --json | a.jpg --column x | a.jpg --nosuch
        a.jpg --format png -o o.jpg | a.jpg --model weights.onnx --engine torch
        a.jpg -o o.jpg | folder -o out -f jpeg | folder -o o.png | a.jpg a.gif -o o.webp
        folder/*.jpg -o o.jpg --background white
        folder/*.nosuch""",
    "export": """
        nosuch | missing.pth | nano -o o.xyz | nano --format nosuch | nano --precision fp12
        nano --size x | nano --size 100 | nano --opset 3 -o o.onnx | nano --precision int8
        nano --calibrate missing | nano --calibrate empty --precision int8 | nano -o o.xml -f onnx
        nano --tensorrt -o o.xml | nano --precision int8 -o o.pt2 --calibrate folder
        nano --dynamic -o o.pt2""",
    "bench": """
        nosuch | missing.pth | nano --engines nosuch | nano --precisions fp12 | nano --sizes x
        nano --device gpu7 | nano --calibrate missing | nano --json --markdown | nano --batch 0""",
    "video": """
        missing.mp4 | a.jpg -o o.webm | a.gif -o o.xyz | a.gif -o o.mp4 | a.gif -o o.png
        a.gif -o o.webm --model nosuch | a.gif -o o.webm --device gpu7 | a.gif -o a.gif
        a.gif -o o.webm --dtype fp12 | a.gif -o o.webm --background nosuch | empty -o o.webm
        a.gif -o o.webm --rate 25 | a.gif -o o.webm --start 3 --end 2 | a.gif -o o.mov --crf 9""",
    "serve": """
        --model nosuch --port 0 | --device gpu7 --port 0 | --dtype fp12 --port 0
        --engine nosuch --port 0 | --api-keys missing | --max-size x | --cors x
        --log-level nosuch | --port 99999 | --queue 0""",
    "ui": """
        --model nosuch --port 0 | --device gpu7 --port 0 | --dtype fp12 --port 0
        --api-keys missing | --max-size x | --port 99999""",
    "rembg i": """
        missing.jpg o.png | a.jpg o.png -m nosuch | a.jpg o.png -x nojson | a.jpg o.png -m sam
        a.jpg o.png -bgc x y z w | a.jpg o.png -bgc 900 0 0 0
        a.jpg o.png -x '{"nosuch": 1}'""",
    "rembg p": "missing out | a.jpg out | folder out -m nosuch | folder out -x nojson",
    "rembg s": "-m nosuch -p 0 | -l nosuch | -p 99999 | -t 0",
    "rembg b": "0 0 | 4 4 -m nosuch | 4 4 -o x.png | 4",
    "rembg d": "nosuch | sam",
    "models list": "--nosuch | extra",
    "models info": "nosuch | missing.pth",
    "models download": "nosuch | nano nosuch",
    "models convert": """
        nosuch o.pth | missing.pth o.pth | nano o.xyz | nano o.onnx | nano o.pth --layout nosuch
        nano o.pth --dtype fp12 | nano there.pth""",
    "train": """
        --recipe nosuch -d data -o run | -r finetune --variant nosuch -d data -o run
        -r finetune --init nosuch -d data -o run | -r finetune --init missing.pth -d data -o run
        -r finetune --init nano -d missing -o run | -r finetune --init nano -d empty -o run
        -r finetune --init nano -d data --set nosuch=1 -o run
        -r finetune --init nano -d data --set loop.seed=x -o run | -d data -o run
        -r finetune --init nano -d data --set nosuch -o run | --variant paper -d data -o run
        -r finetune --init nano -d data --config missing.yaml -o run
        -r finetune --init nano -d data --config text.txt -o run
        -r finetune --init nano -d data --validate missing -o run
        -r finetune --init nano -d data --replay missing -o run
        -r finetune --init nano -d data --device gpu7 -o run | -r finetune --init nano -d data
        -r finetune --init nano -d data -o folder | --resume -o missing
        -r finetune --init nano -o run""",
    "data check": """
        missing | empty | text.txt | data --task nosuch | data --sheet o.xyz
        data --ignore nosuch | data --against missing""",
    "data preview": """
        missing -o o.png | data -o o.xyz | data -o o.png --recipe nosuch | data -o o.png --size 100
        data -o o.png --recipe finetune:nosuch | data -o o.png --set nosuch=1
        data -o o.png --background missing""",
    "evaluate": """
        -p missing -t data/gt | -p data/gt -t missing | -p empty -t data/gt | -p data/gt -t empty
        -p data/gt -t data/gt --metrics nosuch | -p data/gt -t data/gt --sort nosuch
        -p data/gt -t data/gt --threshold-set x | -p data/gt -t data/gt --missing nosuch
        -p data/gt -t data/gt --channel nosuch | -p data/gt -t data/gt -o o.xyz
        -p data/gt -t data/gt --format nosuch | -p data/gt -t data/gt --curves o.xyz
        -p data/gt -t data/gt --trimap missing | -p data/gt -t data/gt --per-image a.jpg
        -p data/gt -t data/gt --image missing --sheet o.html | -p data/gt -p data/gt -t data/gt
        -p data/gt -p missing -t data/gt | -p data/gt -t data/gt --jobs -1""",
    "benchmark": """
        --suite nosuch --data data | --suite dis5k --data missing | --suite dis5k --data empty
        --suite dis5k --data data --set nosuch | --suite dis5k --data data --metrics nosuch
        --suite dis5k --data data --resolution x | --suite dis5k --data suite --model nosuch""",
    "select-best": "missing.json | result.json --by nosuch | result.json --set nosuch",
    "reproduce": """
        nosuch | table2 | table2 --data missing | table2 --tiny --data data
        table2 --data empty""",
    "explain": """
        missing.jpg | a.jpg -o o.xyz | a.jpg -o o.png --model nosuch | a.jpg -o o.png --point x
        a.jpg -o o.png --point 5000,5000 | a.jpg -o o.png --device gpu7
        a.jpg -o o.png --resolution x | a.jpg -o o.png --model weights.onnx""",
    "doctor": "--nosuch | extra",
}
"""Subcommand to arguments that make no sense, with | or a new line between them."""

FAILED = {
    "remove": "bad.jpg | a.jpg --model text.pth | a.jpg -o text.txt/o.png | folder bad.jpg -o out",
    "export": "text.pth | nano -o text.txt/o.onnx",
    "bench": "text.pth --engines torch --precisions fp32",
    "video": "text.txt -o o.webm | a.gif -o o.webm --model text.pth | a.gif -o text.txt/o.webm",
    "serve": "--model text.pth --port 0 | --port TAKEN",
    "ui": "--model text.pth --port 0 | --port TAKEN",
    "rembg i": "bad.jpg o.png | a.jpg text.txt/o.png",
    "rembg p": "broken out",
    "rembg s": "-m text.pth -p 0 | -p TAKEN",
    "rembg b": "400 400",
    "rembg d": "general",
    "models info": "text.pth",
    "models download": "general",
    "models convert": "text.pth o.pth | nano text.txt/o.pth",
    "train": "-r finetune --init text.pth -d data -o run | -r finetune --init nano -d holey -o run",
    "data check": "holey",
    "data preview": "data -o text.txt/o.png",
    "evaluate": "-p data/gt -t data/gt -o text.txt/o.csv | -p data/gt -t more",
    "benchmark": "--suite dis5k --data suite --model text.pth",
    "select-best": "text.txt",
    "explain": "bad.jpg -o o.png | a.jpg -o o.png --model text.pth",
}
"""The same of work that fails, for subcommands whose work can; TAKEN stands for a taken port."""


def subcommands() -> list[str]:
    """All of the app, as they are typed."""

    def below(command: object, words: list[str]) -> list[str]:
        inner = getattr(command, "commands", None)
        if not inner:
            return [" ".join(words)]
        return [name for word in inner for name in below(inner[word], [*words, word])]

    return below(typer.main.get_command(app), [])


def cases(table: dict[str, str]) -> list[tuple[str, str]]:
    return [
        (name, arguments.strip())
        for name, text in table.items()
        for arguments in re.split(r"[|\n]", text)
        if arguments.strip()
    ]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_caches: None) -> Path:
    """A folder of the files that the tables name; nothing may be fetched."""
    monkeypatch.setenv("BIREFNET_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    white = Image.new("RGB", (64, 64), "white")
    for name in ("folder", "data/im", "data/gt", "holey/im", "holey/gt", "empty", "broken", "more"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "suite/DIS-VD/im").mkdir(parents=True)
    (tmp_path / "suite/DIS-VD/gt").mkdir()
    for name in ("a.jpg", "a.gif", "folder/a.jpg", "data/im/a.jpg", "data/im/b.jpg"):
        white.save(name)
    for name in ("holey/im/a.jpg", "holey/im/b.jpg", "suite/DIS-VD/im/a.jpg"):
        white.save(name)
    for name in ("data/gt/a.png", "data/gt/b.png", "holey/gt/a.png", "suite/DIS-VD/gt/a.png"):
        white.convert("L").save(name)
    for name in ("more/a.png", "more/c.png"):
        white.convert("L").save(name)
    for name in ("text.txt", "text.pth", "there.pth", "weights.onnx"):
        Path(name).write_text("hello", encoding="utf-8")
    for name in ("bad.jpg", "broken/bad.jpg"):
        Path(name).write_bytes(b"\xff\xd8\xff\xe0nonsense")
    Path("result.json").write_text(RESULT, encoding="utf-8")
    return tmp_path


RESULT = """{"format": "birefnet-evaluation", "format_version": 1, "results": []}"""


def test_every_subcommand_is_in_the_tables() -> None:
    assert sorted(SENSELESS) == sorted(subcommands())
    assert set(FAILED) <= set(SENSELESS)


@pytest.mark.parametrize(("name", "arguments"), cases(SENSELESS))
def test_senseless(name: str, arguments: str, place: Path, command) -> None:  # type: ignore[no-untyped-def]
    before = sorted(place.rglob("*"))
    done = command(*name.split(), *shlex.split(arguments))
    assert done.status == 2, done.stderr
    check_sentence(done.stderr)
    assert sorted(path for path in place.rglob("*") if "cache" not in path.parts) == before


def empty_values() -> list[tuple[str, list[str]]]:
    """Every parameter with an empty value, as that of a shell's variable that is not set."""
    found: list[tuple[str, list[str]]] = []
    whole = typer.main.get_command(app)
    for name in subcommands():
        command = whole
        for word in name.split():
            command = command.commands[word]  # type: ignore[attr-defined]
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                found.append((name, [""]))
            elif not parameter.is_flag and parameter.name not in MAY_BE_EMPTY:
                values = [""] * parameter.nargs
                found += [(name, [flag, *values]) for flag in parameter.opts]
    return found


@pytest.mark.parametrize(("name", "words"), empty_values())
def test_an_empty_value_is_no_value(name: str, words: list[str], place: Path, command) -> None:  # type: ignore[no-untyped-def]
    before = sorted(place.rglob("*"))
    done = command(*name.split(), *words)
    assert done.status == 2
    assert "is empty" in done.stderr
    assert sorted(path for path in place.rglob("*") if "cache" not in path.parts) == before


@pytest.mark.parametrize("flag", ["--output=~/o.png", "-o~/o.png", "-o ~/o.png"])
@pytest.mark.usefixtures("bright")
def test_a_home_folder_that_the_shell_leaves(  # type: ignore[no-untyped-def]
    flag: str, place: Path, command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(place / "folder"))
    monkeypatch.setenv("USERPROFILE", str(place / "folder"))
    done = command("remove", "~/a.jpg", *flag.split())
    assert done.status == 0, done.stderr
    assert Path("folder/o.png").is_file()
    assert not Path("~").exists()


@pytest.mark.parametrize(("name", "arguments"), cases(FAILED))
def test_failed(name: str, arguments: str, place: Path, command) -> None:  # type: ignore[no-untyped-def]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        words = [port if word == "TAKEN" else word for word in shlex.split(arguments)]
        done = command(*name.split(), *words, stdin=b"short")
    assert done.status == 1, done.stderr
    if name not in ("data check", "bench"):  # which report on standard output
        check_sentence(done.stderr)


def check_sentence(stderr: str) -> None:
    """One that says what is wrong, and no traceback."""
    text = " ".join(stderr.replace("│", " ").split())
    assert "Traceback" not in text
    assert text.count("Error") >= 1
    said = re.split(r"Error[:─ ]", text)[-1]
    assert len(said.split()) >= 3, said


def test_a_second_command_in_a_process_shows_warnings_as_the_first(command) -> None:  # type: ignore[no-untyped-def]
    with warnings.catch_warnings():
        command("--version")
        first = warnings.showwarning
        command("--version")
        assert warnings.showwarning is first


def test_nothing_to_say_is_no_error(place: Path, command) -> None:  # type: ignore[no-untyped-def]
    assert command("models", "list").status == 0
    assert command("evaluate", "-p", "data/gt", "-t", "data/gt", "-o", "new/o.csv").status == 0


# Consoles and pipes without most characters

WORKS = {
    "remove": "字.jpg -o out/↑.png --json",
    "video": "a.gif -o ↑.gif",
    "rembg i": "字.jpg ↑.png",
    "rembg p": "folder ↑",
    "models list": "",
    "models info": "nano",
    "data check": "data",
    "data preview": "data -o ↑.png",
    "evaluate": "-p 字 -t data/gt -o ↑.csv --worst 2",
    "reproduce": "",
    "doctor": "",
}
"""Subcommand to arguments that make it print much; the others take long, or never end."""


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.parametrize("name", [*SENSELESS, *(f"{name} {WORKS[name]}" for name in WORKS)])
@pytest.mark.usefixtures("bright")
def test_no_console_breaks_a_command(  # type: ignore[no-untyped-def]
    name: str, encoding: str, place: Path, command
) -> None:
    Image.new("RGB", (64, 64), "white").save("字.jpg")
    Path("字").mkdir()
    for picture in ("a.png", "b.png"):
        Image.new("L", (64, 64), "white").save(f"字/{picture}")
    if name not in SENSELESS:
        done = command(*shlex.split(name), encoding=encoding)
        assert done.status in (0, 1), done.stderr
    else:
        done = command(*name.split(), "--help", encoding=encoding)
        assert done.status == 0
        assert done.stdout.strip()
        done = command(*name.split(), "--字→é…", encoding=encoding)
        assert done.status == 2
        check_sentence(done.stderr)
    assert "Traceback" not in done.stderr
    if encoding != "ascii":  # which click does not believe: it writes UTF-8
        done.stdout.decode(encoding)


# What Windows refuses

WRITES = {
    "remove": "a.jpg -o NUL.png | folder -o con/out | a.jpg -o o.png --report NUL.html",
    "export": "nano -o NUL.onnx",
    "video": "a.gif -o NUL.webm | a.gif -o o.webm --mask-output NUL.webm",
    "rembg i": "a.jpg NUL.png",
    "rembg p": "folder aux",
    "rembg b": "4 4 -o 'a?%d.png'",
    "models convert": "nano NUL.pth",
    "train": "-r finetune --init nano -d data -o NUL",
    "data check": "data --sheet NUL.html",
    "data preview": "data -o NUL.png",
    "evaluate": """
        -p data/gt -t data/gt -o o.csv -o NUL.csv | -p data/gt -t data/gt --per-image NUL.csv
        -p data/gt -t data/gt --curves NUL.png | -p data/gt -t data/gt --sheet NUL.html""",
    "benchmark": "--suite dis5k --data suite --out NUL",
    "reproduce": "table2 --out NUL",
    "explain": "a.jpg -o NUL.png",
}
"""Subcommand to outputs that Windows refuses."""


@pytest.mark.parametrize(("name", "arguments"), cases(WRITES))
def test_names_that_windows_refuses(  # type: ignore[no-untyped-def]
    name: str, arguments: str, place: Path, command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("birefnet.files.IS_WINDOWS", True)
    before = sorted(place.rglob("*"))
    done = command(*name.split(), *shlex.split(arguments))
    assert done.status == 2, done.stderr
    assert "Windows" in done.stderr
    check_sentence(done.stderr)
    assert sorted(path for path in place.rglob("*") if "cache" not in path.parts) == before
