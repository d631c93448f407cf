"""Workflows, forms, versions and the citation agree with the project."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")
packaging = pytest.importorskip("packaging.requirements")

ROOT = Path(__file__).parents[1]
YAML = sorted([*ROOT.glob(".github/**/*.yml"), ROOT / "CITATION.cff"])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_yaml_has_no_faults(path: Path) -> None:
    pytest.importorskip("yamllint")
    from yamllint import linter
    from yamllint.config import YamlLintConfig

    rules = "{extends: default, rules: {document-start: disable, line-length: {max: 120}}}"
    assert not list(linter.run(path.read_text(encoding="utf-8"), YamlLintConfig(rules)))


def test_what_workflows_run_exists() -> None:
    for path in ROOT.glob(".github/workflows/*.yml"):
        for job in read(str(path.relative_to(ROOT)))["jobs"].values():
            assert job["timeout-minutes"] <= 60
            for name in re.findall(r"\.ci/[\w.]+", str(job["steps"])):
                assert (ROOT / name).is_file(), name


def test_python_versions_are_the_same_everywhere() -> None:
    tested = read(".github/workflows/ci.yml")["jobs"]["all"]["strategy"]["matrix"]["python"]
    start = "Programming Language :: Python :: "
    named = [line.removeprefix(start) for line in PROJECT["classifiers"] if "3." in line]
    assert tested == named
    assert PROJECT["requires-python"] == f">={tested[0]}"
    assert f"{tested[0]} to {tested[-1]} now" in (ROOT / "docs/versions.md").read_text()
    for place in ("README.md", ".ci/run"):
        assert f"Python {tested[0]} or newer" in (ROOT / place).read_text()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert settings["ruff"]["target-version"] == f"py{tested[0].replace('.', '')}"
    assert settings["mypy"]["python_version"] == tested[0]
    nodes = tomllib.loads((ROOT / "comfyui/pyproject.toml").read_text())["project"]
    assert nodes["requires-python"] == PROJECT["requires-python"]


@pytest.mark.parametrize("path", sorted(ROOT.glob(".github/ISSUE_TEMPLATE/[!c]*.yml")))
def test_forms_are_complete(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(form) == {"name", "description", "labels", "body"}
    identities = [field["id"] for field in form["body"]]
    assert len(set(identities)) == len(identities)
    for field in form["body"]:
        assert field["type"] in ("textarea", "input", "checkboxes")
        assert field["attributes"]["label"]
        assert ("options" in field["attributes"]) == (field["type"] == "checkboxes")


def test_tried_versions_are_allowed_ones() -> None:
    """`constraints.txt` is inside of the bounds, and each dependency has a lower bound."""
    lines = [*PROJECT["dependencies"]]
    for extra in PROJECT["optional-dependencies"].values():
        lines += [line for line in extra if not line.startswith("birefnet[")]
    bounds = {}
    for line in lines:
        needed = packaging.Requirement(line)
        assert any(bound.operator == ">=" for bound in needed.specifier), line
        bounds[needed.name.lower().replace("_", "-")] = needed.specifier
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        tried = packaging.Requirement(line)
        (version,) = tried.specifier
        bound = bounds.get(tried.name.lower().replace("_", "-"))
        assert bound is None or bound.contains(version.version), line


def test_the_citation_names_the_paper() -> None:
    paper = read("CITATION.cff")["preferred-citation"]
    assert paper["doi"] == "10.26599/AIR.2024.9150038"
    assert [author["family-names"] for author in paper["authors"]] == [
        "Zheng", "Gao", "Fan", "Liu", "Laaksonen", "Ouyang", "Sebe",
    ]  # fmt: skip
