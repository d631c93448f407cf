"""What JSON costs is known before a parser sees it, however it is cut into parts."""

from __future__ import annotations

import base64
import json
import random
import time
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st

from birefnet.serving import json_guard
from birefnet.serving.errors import InvalidRequest, ServingError, TooLarge
from birefnet.serving.json_guard import JsonGuard, read_object

TEXTS = st.text(st.sampled_from('ab"\\[]{},:/\n\u00e9\U0001f600'), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=25,
)  # fmt: skip


def values_in(value: Any) -> int:
    """How many values, names and brackets a parser has to make of it."""
    if isinstance(value, dict):
        return 1 + sum(1 + values_in(item) for item in value.values())
    return 1 + sum(map(values_in, value)) if isinstance(value, list) else 1


def depth_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(depth_of, inner), default=0) if isinstance(value, (dict, list)) else 0


@settings(deadline=None)
@given(value=st.dictionaries(TEXTS, VALUES, max_size=4), cuts=st.data())
def test_it_counts_what_the_parser_makes(value: dict[str, Any], cuts: st.DataObject) -> None:
    body = json.dumps(value, ensure_ascii=cuts.draw(st.booleans())).encode()
    places = sorted(cuts.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    guard = JsonGuard(len(body))
    for start, stop in zip([0, *places], [*places, len(body)], strict=True):
        guard.feed(body[start:stop])
    assert guard.deepest == depth_of(value)
    assert values_in(value) <= guard.cost <= 4 * values_in(value) + 4
    assert read_object(body) == value


MANY = 5_000_000

BODIES = {
    "points": b'{"points": [' + b"[1,2]," * MANY,
    "commas": b"," * MANY,
    "colons": b":" * MANY,
    "strings": b'"a"' * MANY,
    "empty strings": b'""' * MANY,
    "open brackets": b"[" * MANY,
    "closed brackets": b"]" * MANY,
    "both": b"[]" * MANY,
    "objects": b'{"a":' * MANY,
    "space": b" " * MANY,
    "digits": b'{"a": ' + b"9" * MANY,
    "escapes": b'{"a": "' + b"\\u0041" * MANY,
    "quotes in a string": b'{"a": "' + b'\\"' * MANY,
    "a string without an end": b'{"a": "' + b"a" * 6 * MANY,
}


def slowest_part(body: bytes, guard: JsonGuard, size: int = 2**16) -> float:
    """Seconds of the longest step, until the body is refused."""
    slowest = 0.0
    for start in range(0, len(body), size):
        before = time.thread_time()
        try:
            guard.feed(body[start : start + size])
        except (TooLarge, InvalidRequest):
            return max(slowest, time.thread_time() - before)
        slowest = max(slowest, time.thread_time() - before)
    raise AssertionError("it was let in")


@pytest.mark.parametrize("name", BODIES)
def test_what_would_take_long_is_refused_in_short_steps(name: str) -> None:
    assert slowest_part(BODIES[name], JsonGuard(16 * 2**20)) < 0.05


def test_base64_of_every_writer_passes() -> None:
    text = base64.b64encode(random.Random(0).randbytes(900_000)).decode()
    for body in (json.dumps({"image": text}), json.dumps({"image": text}).replace("/", "\\/")):
        assert read_object(body)["image"] == text


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{", b'{"a"}', b"\xff", b'{"a": "\\ud800"}', "\ud800", b"1"]
)
def test_what_is_no_object_is_said_in_a_sentence(body: Any) -> None:
    with pytest.raises(ServingError, match="JSON"):
        read_object(body)


def test_limits_leave_room_for_what_routes_take() -> None:
    marks = {
        "boxes": [[1, 2, 3, 4]] * 64,
        "points": [[0.5, 0.5]] * 64,
        "other_points": ["1,1"] * 64,
    }
    guard = JsonGuard(2**20)
    guard.feed(json.dumps(marks).encode())
    assert guard.cost < json_guard.MOST_SEPARATORS / 5
