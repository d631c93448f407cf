"""Without an extra: what needs none works; what needs one says which, and how to install it.

All packages of all extras are hidden from the processes that these tests start. In an environment
that has none of them, the same tests hold for real.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import birefnet
from birefnet.matte import Kind
from data_sets import photo, save
from fakes import write_animation, write_disc
from test_public_names import promised

TESTS = Path(__file__).parent
HIDDEN = """
    accelerate av datasets fastapi fastapi_offline fsspec gradio httpx huggingface_hub imagecodecs
    matplotlib nncf numba onnx onnxscript openvino pillow_heif prometheus_client pyarrow pymatting
    ray safetensors starlette tensorboard timm torch torchvision transformers triton upath uvicorn
    webdataset yaml
"""

# What is typed → the extras that its error names.
COMMANDS = {
    "train --recipe finetune --data pictures --output run": "train",
    "train --recipe finetune --data pictures --dry-run": "train",
    "explain photo.png -o explained.png": "torch",
    "data preview pictures -o preview.png": "torch",
    "data check hf:nobody/nothing": "data",
    "reproduce table2 --tiny": "train",
    "models convert nano nano.pth": "torch",
    "models info folder": "torch",
    "models info w.pth": "torch",
    "export nano -o nano.onnx": "onnx",
    "export nano -o nano.pt2": "torch",
    "export nano -o nano.xml": "torch,openvino",
    "export nano -o nano.xml --precision int8 --calibrate pictures": "nncf",
    "remove photo.png -o out.png --model w.pth": "torch",
    "remove photo.png -o out.png --model folder/model.safetensors": "torch",
    "remove photo.png -o out.png --model folder": "torch",
    "remove photo.png -o out.png --model somebody/something": "torch",
    "remove photo.png -o out.png --model lucida": "torch",
    "remove photo.png -o out.png --dtype bf16": "torch",
    "remove photo.png -o out.png --device mps": "torch",
    "remove photo.png -o out.png --model w.xml": "openvino",
    "remove photo.png -o out.png --model w.pt2": "torch",
    "remove photo.png -o out.png --engine ray": "ray",
    "remove photo.png -o out.png --matting closed-form": "matting",
    "remove s3://nobody/nothing.png -o out.png": "urls",
    "video film.mp4 -o film.webm": "video",
    "serve": "serve",
    "rembg s": "serve",
    "ui": "ui",
}
CODE = {
    "birefnet.load_network()": "torch",
    "birefnet.Predictor(object())": "torch",
    "birefnet.load('w.pth')": "torch",
    "birefnet.load('folder')": "torch",
    "birefnet.load(engine='torch')": "torch",
    "birefnet.load(engine='openvino')": "openvino",
    "birefnet.remove_background('photo.png', model='w.pth')": "torch",
    "birefnet.load('w.xml')": "openvino",
    "birefnet.load('w.pt2')": "torch",
    "import birefnet.integrations.transformers": "transformers",
    "import birefnet.integrations.comfyui.register": "torch",
    "import birefnet.integrations.ray_serve": "ray,serve",
    "import birefnet.serving.app": "serve",
    "import birefnet.serving.page": "ui",
}
# Public names that compute with torch; all others are there without it.
OF_TORCH = re.compile(
    r"birefnet\.(explain|network\.(?!config)|inference\.engines\.torch_engine"
    r"|training\.(assemble|data|loop|losses)"
    r"|weights\.(Loaded|detect_config|load_checkpoint|save_directory))"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a picture, a pair for training, and files that look like weights."""
    folder = tmp_path_factory.mktemp("core")
    write_disc(folder / "photo.png")
    write_animation(folder / "animation.gif")
    for part in ("im", "gt"):
        write_disc(folder / "pictures" / part / "a.png")
    save(folder / "small/im/a.png", photo(0, 320, 320)[0])
    save(folder / "small/gt/a.png", photo(0, 320, 320)[1])
    for name in ("w.pth", "w.xml", "w.pt2", "film.mp4", "folder/model.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"PK\x03\x04")
    return folder


def python(*arguments: str, folder: Path, hidden: str = HIDDEN) -> subprocess.CompletedProcess[str]:
    """Run Python without these packages, which are those of all extras."""
    path = [str(TESTS / "without"), str(Path(birefnet.__file__).parents[1])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "HIDDEN_PACKAGES": hidden,
        "BIREFNET_CACHE": str(folder / "cache"),
    }
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=180
    )


WORKS = """
    doctor | models list --json | models info nano | models download nano | bench nano --json
    --engines onnx --precisions fp32 --sizes 64 --rounds 1 | train --list | data check small
    | evaluate -p pictures/gt -t pictures/gt | reproduce | reproduce table2 --tiny --dry-run
    | rembg i photo.png o/0.png | rembg p pictures/im o/rembg | remove photo.png -o o/1.png
    | remove pictures -o o/folder | remove animation.gif -o o/2.gif | remove photo.png -o o/3.tiff
    | remove photo.png -o o/4.jpg --background photo.png | remove photo.png -o o/5.png --crop
    | remove photo.png -o o/6.png --objects | remove photo.png -o o/7.png --shadow ground
    | remove photo.png -o o/8.png --matting guided | remove photo.png -o o/9.png --point 0.5,0.5
    | remove photo.png -o o/a.png --box 0.1,0.1,0.9,0.9 | remove photo.png -o o/b.png --json
    --guide photo.png | remove photo.png -o o/c.png --refine-passes 2 | remove photo.png -o o/d.png
    --resolution native | remove photo.png -o o/e.png --threshold 0.5 --mask-blur 1 --mask-offset 1
""" + "".join(f"| remove photo.png -o o/{kind}.png --type {kind}" for kind in get_args(Kind))
RUN = """if True:
    import contextlib, io, json, sys
    from birefnet.cli.main import main

    for words in json.loads(sys.argv[1]):
        sys.argv = ["birefnet", *words]
        heard, status = io.StringIO(), 0
        with contextlib.redirect_stderr(heard), contextlib.redirect_stdout(io.StringIO()):
            try:
                main()
            except SystemExit as end:
                status = end.code or 0
        print(json.dumps([words, status, heard.getvalue()]))
"""


def test_what_needs_no_extra_works(folder: Path) -> None:
    commands = [command.split() for command in WORKS.split("|")]
    for words in commands:
        words += ["--background", "red"] if words[-1] == "colour" else []
        if words[0] == "remove" and "--resolution" not in words:
            words += ["--resolution", "64"]
    done = python("-c", RUN, json.dumps(commands), folder=folder)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [words for words, _, _ in found] == commands
    for words, status, said in found:
        assert (status, "Error" in said, "Warning" in said) == (0, False, False), f"{words}: {said}"
        for name in words:
            if name.startswith("o/"):
                assert (folder / name).exists() or "--objects" in words, name
    shutil.rmtree(folder / "o")


PYTHON_WORKS = """if True:
    import io, numpy, birefnet
    from birefnet.compat import rembg
    from birefnet.inference.guidance import Guidance
    picture = numpy.zeros((40, 50, 3), numpy.uint8)
    picture[10:30, 10:40] = 220
    assert birefnet.remove_background(picture).shape == (40, 50, 4)
    assert birefnet.remove_background("photo.png").mode == "RGBA"
    predictor = birefnet.load("nano", device="cpu", dtype="float32", engine="onnx")
    mattes = list(predictor.predict([picture, "photo.png", open("photo.png", "rb").read()]))
    for matte in mattes:
        matte.cutout(), matte.mask(), matte.foreground(), matte.on("white"), matte.blurred()
        matte.overlay(), matte.trimap(), matte.matted("guided").with_shadow().cropped()
    predictor.predict_guided(picture, Guidance(boxes=((5, 5, 45, 35),)))
    rembg.remove(picture, session=rembg.new_session("nano", providers=["CPUExecutionProvider"]))
"""


def test_python_that_needs_no_extra_works(folder: Path) -> None:
    done = python("-c", PYTHON_WORKS, folder=folder)
    assert done.returncode == 0, done.stderr


OF_TORCH_ALONE = "torch torchvision safetensors onnx nncf accelerate transformers"
EDGES = {
    "av": """if True:
        from birefnet.video import process_video, read_mattes
        process_video("animation.gif", "film.webm")
        assert len(list(read_mattes("film.webm"))) == 3
    """,
    "fastapi": """if True:
        from starlette.testclient import TestClient
        from birefnet.serving.app import create_app
        with TestClient(create_app()) as client:
            answer = client.post("/v1/remove", files={"file": open("photo.png", "rb")})
            assert (answer.status_code, answer.content[:4]) == (200, b"\\x89PNG"), answer.text
    """,
    "gradio": """if True:
        from starlette.testclient import TestClient
        from birefnet.serving.app import create_app
        with TestClient(create_app()) as client:
            assert "gradio" in client.get("/").text
    """,
    "openvino": """if True:
        import birefnet
        from birefnet.inference.load import choose_engine
        assert choose_engine("auto", "nano").engine == "openvino"
        assert "openvino" in birefnet.load().engine.name
        birefnet.remove_background("photo.png")
    """,
    "pymatting": """if True:
        import birefnet
        birefnet.load().predict("photo.png").matted("closed-form")
    """,
    "ray": "import birefnet.integrations.ray_data",
}


@pytest.mark.parametrize("package", EDGES)
def test_extras_without_torch_work_without_it(package: str, folder: Path) -> None:
    pytest.importorskip(package)
    done = python("-c", EDGES[package], folder=folder, hidden=OF_TORCH_ALONE)
    (folder / "film.webm").unlink(missing_ok=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("command", "extra"), COMMANDS.items())
def test_a_command_names_the_extra_that_it_lacks(command: str, extra: str, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    done = python("-m", "birefnet", *command.split(), folder=folder)
    assert done.returncode == 1, done.stderr
    said = done.stderr.lstrip()  # rich 13.0 ends its bar with an empty line
    assert said.startswith("Error: "), said
    assert said.count("\n") == 1, said
    assert said.endswith(f'pip install "birefnet[{extra}]"\n')
    assert sorted(folder.rglob("*")) == before, "something was written"


@pytest.mark.parametrize(("code", "extra"), CODE.items())
def test_python_names_the_extra_that_it_lacks(code: str, extra: str, folder: Path) -> None:
    done = python("-c", f"import birefnet; {code}", folder=folder)
    assert done.stderr.splitlines()[-1].startswith("birefnet.errors.MissingExtraError: ")
    assert done.stderr.endswith(f'pip install "birefnet[{extra}]"\n'), done.stderr


@pytest.mark.parametrize(
    "command", ["data check pictures --jobs 1", "evaluate -p pictures/gt -t pictures/gt --jobs 1"]
)
def test_reports_need_no_extra(command: str, folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = python("-m", "birefnet", *command.split(), "--sheet", str(page), folder=folder)
    assert f"Wrote {page}" in done.stderr.replace("\n", "")
    assert b"<img" in page.read_bytes()


LOOK_UP = """if True:
    import json, sys
    from birefnet.errors import MissingExtraError
    from importlib import import_module
    found = {}
    for name in json.loads(sys.argv[1]):
        module, rest, value = name, [], None
        while value is None:
            try:
                value = import_module(module)
                for part in rest:
                    value = getattr(value, part)
                found[name] = ""
            except MissingExtraError as error:
                value, found[name] = error, str(error)
            except ModuleNotFoundError as error:
                if error.name != module:
                    value, found[name] = error, str(error)
                module, _, last = module.rpartition(".")
                rest.insert(0, last)
    print(json.dumps(found))
"""


def test_public_names_are_there_or_name_the_extra(folder: Path) -> None:
    done = python("-c", LOOK_UP, json.dumps(promised()), folder=folder)
    assert done.returncode == 0, done.stderr
    for name, said in json.loads(done.stdout).items():
        if OF_TORCH.match(name):
            assert said.endswith(" needs the extra 'torch': pip install \"birefnet[torch]\""), name
        else:
            assert not said, f"{name}: {said}"


IMPORTS = """if True:
    import importlib, sys
    from birefnet.errors import MissingExtraError

    for name in sys.argv[1:]:
        try:
            importlib.import_module(name)
        except MissingExtraError as error:
            assert "needs the extra" in str(error), error
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}")
"""


def test_every_module_names_the_extra_that_it_needs(folder: Path) -> None:
    root = Path(birefnet.__file__).parent
    paths = [path.relative_to(root.parent) for path in sorted(root.rglob("*.py"))]
    names = [".".join(path.with_suffix("").parts) for path in paths if path.stem[:2] != "__"]
    packages = [".".join(path.parent.parts) for path in paths if path.stem == "__init__"]
    done = python("-c", IMPORTS, *packages, *names, folder=folder)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
