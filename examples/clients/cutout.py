"""Cut out a picture with a birefnet server; Python's own library is enough.

python cutout.py chelsea.jpg cutout.png
python cutout.py chelsea.jpg cat.webp format=webp background=white resolution=512

BIREFNET_URL names the server, BIREFNET_API_KEY its key. In a program of your own:

from cutout import remove

png = remove(open("chelsea.jpg", "rb").read(), kind="mask")
"""

from __future__ import annotations

import json
import os
import sys
import time
from http.client import HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

SERVER = os.environ.get("BIREFNET_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("BIREFNET_API_KEY", "")
TRIES = 5


def remove(picture: bytes, **options: str | int | float | bool) -> bytes:
    """The picture without its background, as an encoded picture.

    Args:
        picture: the bytes of its file.
        options: see the server's /docs, such as format="webp", background="white", model="lite".

    Raises:
        RuntimeError: with the server's sentence, where the picture or the options make no sense.
    """
    with _ask(picture, options, "image/*") as answer:
        return answer.read()


def describe(picture: bytes, **options: str | int | float | bool) -> dict:
    """All that the server says: model, coverage, confidence, is_empty, image and mask as data URIs.

    Raises:
        RuntimeError: as `remove`.
    """
    with _ask(picture, options, "application/json") as answer:
        return json.load(answer)


def _ask(picture: bytes, options: dict[str, str | int | float | bool], accept: str) -> HTTPResponse:
    headers = {"Content-Type": "application/octet-stream", "Accept": accept}
    if KEY:
        headers["X-Api-Key"] = KEY
    request = Request(f"{SERVER}/v1/remove?{urlencode(options)}", picture, headers)
    for left in reversed(range(TRIES)):
        try:
            return urlopen(request, timeout=180)
        except HTTPError as error:
            # A full queue or a server on its way out says when to come again.
            wait = error.headers.get("Retry-After")
            if wait is None or not left:
                raise RuntimeError(_sentence(error)) from None
            time.sleep(float(wait))
    raise AssertionError


def _sentence(error: HTTPError) -> str:
    text = error.read().decode(errors="replace")
    try:
        return json.loads(text)["error"]["message"]
    except (ValueError, LookupError, TypeError):  # a proxy's answer
        return f"the server answered {error.code}: {text[:200]}"


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    source, target, *pairs = sys.argv[1:]
    try:
        result = remove(Path(source).read_bytes(), **dict(pair.split("=", 1) for pair in pairs))
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"{source}: {error}")
    Path(target).write_bytes(result)
