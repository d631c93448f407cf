"""JSON from strangers: judged as it comes, before a parser sees it.

Every JSON parser holds the interpreter while it works, in a thread too. A body of commas takes
seconds and gigabytes, and all other requests wait. So a body's bytes, its depth and the number of
its separators are limited while it is received, in time proportional to its length.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import TypeAdapter, ValidationError

from birefnet.serving.errors import CLOSE, InvalidRequest, TooLarge

MOST_SEPARATORS = 10_000
"""Commas, colons and brackets outside strings; no route needs a hundredth of them."""

DEEPEST = 32
"""Brackets within each other."""

MOST_SPACE = 2**20
"""Bytes outside strings: numbers, names and white space."""

ESCAPED = 16
"""One character of so many may be escaped, of long bodies; of base64 a sixty-fourth can be."""

_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_NO_BRACKET = bytes(sorted(set(range(256)) - set(b"[]{}")))
_OBJECT = TypeAdapter(dict[str, Any])


class JsonGuard:
    """Counts what a parser would have to do for a body, part by part.

    Args:
        most_bytes: of the whole body.

    Attributes:
        cost: separators, brackets and strings so far.
        deepest: brackets within each other so far.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = self._escapes = self._space = self._depth = 0
        self.cost = self.deepest = 0
        self._is_string = False
        self._rest = b""  # a backslash whose character comes with the next part

    def feed(self, part: bytes) -> None:
        """The next part of the body.

        Raises:
            TooLarge: too many bytes or separators.
            InvalidRequest: too deep.
        """
        self._bytes += len(part)
        if self._bytes > self._most_bytes:
            raise TooLarge(
                f"the JSON is larger than {self._most_bytes:,} bytes, the limit; send files in a "
                "form (multipart/form-data)",
                CLOSE,
            )
        if self._rest or b"\\" in part:
            part = self._without_escapes(self._rest + part)
        pieces = part.split(b'"')
        outside = b"".join(pieces[self._is_string :: 2])
        self._is_string ^= len(pieces) % 2 == 0
        brackets = outside.translate(None, _NO_BRACKET)
        self._space += len(outside)
        # A string beyond the last separator is not valid JSON, but costs as much.
        self.cost += len(brackets) + outside.count(b",") + outside.count(b":")
        self.cost += len(pieces) // 2
        for bracket in brackets[: MOST_SEPARATORS + 1]:
            self._depth += 1 if bracket in b"[{" else -1
            self.deepest = max(self.deepest, self._depth)
            if self.deepest > DEEPEST:
                raise InvalidRequest(
                    f"the JSON is nested more than {DEEPEST} times; send it flat",
                    CLOSE,
                )
        if self.cost > MOST_SEPARATORS or self._space > MOST_SPACE:
            raise TooLarge(
                f"the JSON holds more than {MOST_SEPARATORS:,} values; send fewer",
                CLOSE,
            )

    def _without_escapes(self, part: bytes) -> bytes:
        ends = len(part) - len(part.rstrip(b"\\"))
        self._rest = b"\\" * (ends % 2)
        part, count = _ESCAPE.subn(b"", part[: len(part) - ends % 2])
        self._escapes += count
        if self._escapes > MOST_SEPARATORS + self._bytes // ESCAPED:
            raise TooLarge(
                "the JSON's strings hold too many escapes; send the text as it is",
                CLOSE,
            )
        return part


def read_object(body: str | bytes, name: str = "the body") -> dict[str, Any]:
    """A JSON object, parsed and checked in one step; a body that has not passed a guard passes now.

    Raises:
        InvalidRequest: no JSON, or no object.
        TooLarge: see `JsonGuard`.
    """
    try:
        data = body.encode() if isinstance(body, str) else body
        JsonGuard(len(data)).feed(data)
        return _OBJECT.validate_json(data)
    except UnicodeEncodeError:
        raise InvalidRequest(f"{name} is not valid JSON") from None
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False)[0]["type"] == "dict_type":
            raise InvalidRequest(f"{name} is not a JSON object; send {{…}}") from None
        raise InvalidRequest(f"{name} is not valid JSON") from None
