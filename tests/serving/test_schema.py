"""Schemathesis on the server's OpenAPI document: what it makes up is answered, and as promised.

The long form: `pytest -m slow tests/serving/test_schema.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("schemathesis")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from birefnet.serving.settings import ServerSettings
from fakes import BrightEngine
from live_server import live

LIMITS = ServerSettings(
    page=False, max_pixels=1_000_000, max_resolution=256, fetch=False, jobs=100, grace_s=1
)


@pytest.fixture(scope="module")
def document() -> Iterator[Any]:
    """The document of a server that runs beside the tests."""
    with live(BrightEngine(), LIMITS) as running:
        yield schemathesis.openapi.from_url(f"{running.url}/openapi.json")


def explore(document: Any, examples: int) -> Counter[str]:
    """Send so many made-up requests to each operation; how often each was answered well or not."""
    outcomes: Counter[str] = Counter()
    for entry in document.get_all_operations():
        operation = entry.ok()

        @settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def send(case: Any) -> None:
            answer = case.call()
            case.validate_response(
                answer,
                checks=[
                    status_code_conformance,
                    content_type_conformance,
                    response_schema_conformance,
                ],
            )
            check(answer, f"{case.method} {case.path}")
            outcomes[f"{case.method} {case.path} {answer.status_code // 100}xx"] += 1

        send()
    return outcomes


def check(answer: Any, what: str) -> None:
    text = answer.content.decode("utf-8", "replace")
    about = f"{what}: {answer.status_code} {text[:300]}"
    assert answer.status_code < 500 or "retry-after" in answer.headers, about
    assert "Traceback" not in text, about
    if answer.status_code >= 400:
        assert answer.headers["content-type"][0].startswith("application/json"), about


def test_what_the_document_allows(document: Any) -> None:
    outcomes = explore(document, 4)
    assert len({name.rpartition(" ")[0] for name in outcomes}) > 20


@pytest.mark.slow
def test_much_of_what_the_document_allows(document: Any) -> None:
    for name, count in sorted(explore(document, 100).items()):
        print(f"{count:6}  {name}")
