"""Build the wheel and the sdist, look into them, and use and test the wheel where nothing else is.

Run by `.ci/run` with the Python of an environment that has `build` and `twine`:
`python .ci/package.py [FOLDER]`. The wheel and the sdist stay in the folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MEGABYTES = {".whl": 16, ".gz": 30}  # the bundled weights are 9, ONNX Runtime for browsers 4
NEEDED = (
    "birefnet/py.typed",
    "birefnet/weights/bundled/nano/model.onnx",
    "birefnet/weights/bundled/nano/model.safetensors",
    "birefnet/weights/bundled/nano/ATTRIBUTION.md",
    "birefnet/export/site/index.html",
    "birefnet/export/site/onnxruntime.wasm.gz",
    "birefnet/html_report.html",
    "birefnet/serving/page/stage.html",
    "birefnet/integrations/comfyui/folder/__init__.py",
)
TESTS = (  # of those of tests/core.txt: what must work where nothing else is installed
    "test_core_install.py",
    "test_api.py",
    "inference/test_predictor.py",
    "cli/test_doctor.py",
    "cli/test_models_command.py",
    "cli/test_remove.py",
    "compat",
    "inference/engines/test_choice.py",
    "inference/guidance/test_guidance.py",
)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        away = Path(folder)
        target = Path(sys.argv[1]) if len(sys.argv) > 1 else away / "dist"
        wheel, sdist = build(target.resolve(), away)
        look_into(wheel, sdist)
        programs = install(wheel, away / "environment")
        use(programs, away)
        tests = test(programs, away)
    print(f"package: {wheel.name} and {sdist.name} build, hold what they should, install and run")
    print(f"the core alone: {tests}")


def build(target: Path, away: Path) -> tuple[Path, Path]:
    """Both files; the wheel is made from the sdist, and is the same from the repository."""
    run(sys.executable, "-m", "build", "--outdir", target, ROOT)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", away / "direct", ROOT)
    (wheel,) = target.glob("*.whl")
    (sdist,) = target.glob("*.tar.gz")
    (direct,) = (away / "direct").glob("*.whl")
    assert wheel.read_bytes() == direct.read_bytes(), "the sdist builds another wheel"
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    return wheel, sdist


def look_into(wheel: Path, sdist: Path) -> None:
    """Exactly the files that git tracks, and no larger than they should be."""
    tracked = set(run("git", "-C", ROOT, "ls-files", "-z").split("\0")) - {""}
    home = "birefnet/integrations/comfyui/folder"
    expected = {name.removeprefix("src/") for name in tracked if name.startswith("src/")}
    expected |= {f"{home}{name[7:]}" for name in tracked if name.startswith("comfyui/")}
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    compare(wheel, inside, expected)
    assert not set(NEEDED) - inside, f"{wheel.name} lacks {set(NEEDED) - inside}"
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    compare(sdist, names - {"PKG-INFO"}, tracked)
    for path in (wheel, sdist):
        size, most = path.stat().st_size / 1e6, MEGABYTES[path.suffix]
        assert size <= most, f"{path.name} has {size:.1f} MB, more than {most}"


def compare(path: Path, inside: set[str], expected: set[str]) -> None:
    foreign, absent = sorted(inside - expected), sorted(expected - inside)
    assert not foreign, f"{path.name} holds what git does not track: {foreign[:9]}"
    assert not absent, f"{path.name} lacks {absent[:9]}"


def install(wheel: Path, environment: Path) -> Path:
    """The folder of programs of a new environment with the wheel and its dependencies alone."""
    venv.create(environment, with_pip=True)
    programs = environment / ("Scripts" if os.name == "nt" else "bin")
    run(programs / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
    run(programs / "python", "-m", "pip", "check")
    return programs


def use(programs: Path, away: Path) -> None:
    """What a first user does, without a network and far from the repository."""
    (away / "photo.jpg").write_bytes((ROOT / "examples/coffee.jpg").read_bytes())
    (away / "custom_nodes").mkdir()
    python, birefnet = programs / "python", programs / "birefnet"

    def said(*command: str | Path) -> str:
        return run(*command, folder=away)

    home = said(python, "-c", "import birefnet; print(birefnet.__file__)")
    assert Path(home.strip()).is_relative_to(programs.parent), f"{home} is not the installed one"
    said(birefnet, "remove", "photo.jpg", "-o", "cutout.png")
    check = "import sys; from PIL import Image; a = Image.open('cutout.png'); print(a.mode)"
    check += "; low, high = a.getchannel('A').getextrema(); sys.exit(low > 9 or high < 246)"
    assert said(python, "-c", check).strip() == "RGBA"
    assert "All is well" in said(birefnet, "doctor")
    said(birefnet, "export", "nano", "--format", "web", "-o", "page")
    assert (away / "page/model/model.safetensors").is_file()
    said(python, "-m", "birefnet.integrations.comfyui", "custom_nodes")
    assert (away / "custom_nodes/comfyui-birefnet/__init__.py").is_file()


def test(programs: Path, away: Path) -> str:
    """Run the tests of the core on the installed wheel; returns pytest's last line."""
    python, settings = programs / "python", ROOT / "pyproject.toml"
    for package in ("torch", "safetensors", "onnx", "openvino", "huggingface_hub"):
        found = run(python, "-c", f"import importlib.util as u; print(u.find_spec({package!r}))")
        assert found.strip() == "None", f"the core brings {package}"
    constraints = ROOT / "constraints.txt"
    run(python, "-m", "pip", "install", "-q", "-c", constraints, "pytest", "hypothesis")
    tests = [ROOT / "tests" / name for name in TESTS]
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", settings, "--rootdir", ROOT]
    return run(python, *command, *tests, folder=away).splitlines()[-1]


def run(*command: str | Path, folder: Path = ROOT) -> str:
    """What a command said; it must succeed."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"BIREFNET_OFFLINE": "1", "BIREFNET_CACHE": str(folder / "cache")}
    words = [str(part) for part in command]
    done = subprocess.run(words, cwd=folder, env=environment, text=True, capture_output=True)
    if done.returncode:
        said = done.stdout + done.stderr
        sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{said}")
    return done.stdout


if __name__ == "__main__":
    main()
