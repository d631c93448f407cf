"""Sentences with a number in them: one picture is "1 picture"."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import birefnet
from birefnet.errors import counted

NOUNS = (
    "backgrounds|bands|blocks|channels|characters|classes|colours|columns|commands|copies|cores|"
    "cutouts|entries|epochs|findings|folders|frames|groups|images|items|keys|layers|lines|masks|"
    "mattes|models|numbers|objects|packets|pages|pairs|panels|parts|pictures|points|predictions|"
    "processes|rows|samples|shards|sizes|steps|tables|tensors|threads|trimaps|values|videos|"
    "views|windows|files"
)
_NEXT = re.compile(rf" (?:{NOUNS})\b(?!/s| a second)")


@pytest.mark.parametrize(
    ("number", "noun", "several", "text"),
    [
        (0, "picture", "", "0 pictures"),
        (1, "picture", "", "1 picture"),
        (1.0, "epoch", "", "1 epoch"),
        (2.5, "epoch", "", "2.5 epochs"),
        (1_234_567, "frame", "", "1,234,567 frames"),
        (1, "class", "classes", "1 class"),
        (3, "class", "classes", "3 classes"),
    ],
)
def test_numbers_and_nouns(number: float, noun: str, several: str, text: str) -> None:
    assert counted(number, noun, several) == text


def test_every_count_before_a_noun_is_made_by_counted() -> None:
    """A number that is written before "pictures" says "1 pictures" some day. Constants do not."""
    root = Path(birefnet.__file__).parent
    found = []
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.JoinedStr):
                continue
            for value, text in zip(node.values, node.values[1:], strict=False):
                if (
                    isinstance(value, ast.FormattedValue)
                    and isinstance(text, ast.Constant)
                    and _NEXT.match(str(text.value))
                    and not ast.unparse(value.value).isupper()
                ):
                    place = f"{path.relative_to(root)}:{value.lineno}"
                    found.append(f"{place}: {{{ast.unparse(value.value)}}}{text.value}")
    assert not found, "\n".join(found)
