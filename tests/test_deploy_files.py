"""The files for containers name things that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "compose.yaml", ROOT / "deploy/kubernetes.yaml", ROOT / "deploy/ray_serve.yaml"]


def documents(path: Path) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all(path.read_text(encoding="utf-8")) if found]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_yaml_is_clean(path: Path) -> None:
    pytest.importorskip("yamllint")
    from yamllint import linter
    from yamllint.config import YamlLintConfig

    rules = "{extends: default, rules: {line-length: {max: 120}, braces: {max-spaces-inside: 1}}}"
    assert not list(linter.run(path.read_text(encoding="utf-8"), YamlLintConfig(rules)))


def test_extras_and_files_of_the_dockerfile_exist() -> None:
    text = (ROOT / "Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extras in re.findall(r"\.whl\)\[([\w,]+)\]", text):
        assert set(extras.split(",")) <= set(project["optional-dependencies"])
    ignored = (ROOT / ".dockerignore").read_text()
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists()
            assert f"!{name}" in ignored


def test_the_dockerfile_copies_all_that_the_wheel_is_built_of() -> None:
    text = (ROOT / "Dockerfile").read_text()
    copied = " ".join(re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)).split()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    named = [project["project"]["readme"], *project["project"]["license-files"]]
    for path in [*named, *wheel["packages"], *wheel["force-include"]]:
        assert {path, path.split("/")[0]} & set(copied), f"{path} is not copied"


def test_arguments_are_options_of_the_command() -> None:
    import typer

    from birefnet.cli.serve import register

    app = typer.Typer()
    register(app)
    command = typer.main.get_command(app)
    serve = getattr(command, "commands", {}).get("serve", command)
    known = {option for parameter in serve.params for option in parameter.opts}
    used = re.findall(r'"(--[a-z-]+)"', (ROOT / "Dockerfile").read_text().split("ENTRYPOINT", 1)[1])
    compose = documents(ROOT / "compose.yaml")[0]
    for service in compose["services"].values():
        used += service["command"]
    deployment = documents(ROOT / "deploy/kubernetes.yaml")[0]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    used += container["args"]
    assert {word for word in used if word.startswith("--")} <= known


def test_probes_ask_for_paths_of_the_server() -> None:
    (container,) = documents(ROOT / "deploy/kubernetes.yaml")[0]["spec"]["template"]["spec"][
        "containers"
    ]
    asked = {container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    assert asked == {"/ready", "/health"}


def test_compose_takes_the_file() -> None:
    docker = shutil.which("docker")
    if (
        docker is None
        or subprocess.run([docker, "compose", "version"], capture_output=True).returncode
    ):
        pytest.skip("docker compose is not installed")
    done = subprocess.run(
        [docker, "compose", "--profile", "gpu", "-f", "compose.yaml", "config", "--quiet"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", "BIREFNET_API_KEYS": "x" * 20},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
