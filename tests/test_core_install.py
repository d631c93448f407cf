"""Without an extra: what needs one says in one sentence which, and how to install it.

All packages of all extras are hidden from the processes that these tests start. In an environment
that has none of them, the same tests hold for real.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import birefnet
from fakes import write_disc
from test_public_names import promised

TESTS = Path(__file__).parent
HIDDEN = """
    accelerate av datasets fastapi fastapi_offline fsspec gradio huggingface_hub imagecodecs
    matplotlib nncf numba onnx openvino pillow_heif prometheus_client pyarrow pymatting ray
    safetensors starlette tensorboard timm torch torchvision transformers triton upath uvicorn
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
    r"birefnet\.(explain|network\.(?!config)|engines\.torch_engine|training\.(assemble|data|loop)"
    r"|training\.losses|weights\.(Loaded|detect_config|load_checkpoint|save_directory))"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a picture, a pair for training, and files that look like weights."""
    folder = tmp_path_factory.mktemp("core")
    write_disc(folder / "photo.png")
    for part in ("im", "gt"):
        write_disc(folder / "pictures" / part / "a.png")
    for name in ("w.pth", "w.xml", "w.pt2", "film.mp4", "folder/model.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"PK\x03\x04")
    return folder


def python(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python without the packages of any extra."""
    path = [str(TESTS / "without"), str(Path(birefnet.__file__).parents[1])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "HIDDEN_PACKAGES": HIDDEN,
        "BIREFNET_CACHE": str(folder / "cache"),
    }
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(("command", "extra"), COMMANDS.items())
def test_a_command_names_the_extra_that_it_lacks(command: str, extra: str, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    done = python("-m", "birefnet", *command.split(), folder=folder)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("Error: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.endswith(f'pip install "birefnet[{extra}]"\n')
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
