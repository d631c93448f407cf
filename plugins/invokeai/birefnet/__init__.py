"""A node for InvokeAI that removes backgrounds by a running `birefnet serve`.

Copy the folder `birefnet` into InvokeAI's `nodes`, and start InvokeAI again.
"""

import io
import json
from typing import Literal
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from invokeai.invocation_api import (
    BaseInvocation,
    ImageField,
    ImageOutput,
    InputField,
    InvocationContext,
    WithBoard,
    WithMetadata,
    invocation,
)
from PIL import Image

TIMEOUT = 600  # [s]; the first picture may wait for a download of the network


@invocation(
    "birefnet_server",
    title="Remove Background (BiRefNet Server)",
    tags=["image", "background", "mask", "birefnet"],
    category="image",
    version="1.0.0",
)
class BiRefNetServerInvocation(BaseInvocation, WithMetadata, WithBoard):
    """Remove a picture's background by a BiRefNet server."""

    image: ImageField = InputField(description="The picture")
    kind: Literal["cutout", "mask", "white", "green", "blur"] = InputField(
        default="cutout", description="What becomes of it"
    )
    model: str = InputField(default="", description="One of the server's networks; empty: default")
    passes: Literal[1, 2] = InputField(
        default=1, description="2 redoes edges at the picture's own resolution"
    )
    mask_offset: int = InputField(default=0, description="Move the edge [px]", ge=-64, le=64)
    mask_blur: int = InputField(default=0, description="Soften the edge [px]", ge=0, le=64)
    server: str = InputField(default="http://127.0.0.1:8000", description="Its address")
    api_key: str = InputField(default="", description="If the server wants one")

    def invoke(self, context: InvocationContext) -> ImageOutput:
        options = {
            "type": self.kind,
            "format": "png",
            "passes": self.passes,
            "mask_offset": self.mask_offset,
            "mask_blur": self.mask_blur,
            **({"model": self.model} if self.model else {}),
        }
        picture = context.images.get_pil(self.image.image_name)
        return ImageOutput.build(context.images.save(image=self._cut_out(picture, options)))

    def _cut_out(self, image: Image.Image, options: dict[str, object]) -> Image.Image:
        server = self.server.rstrip("/")
        sent = io.BytesIO()
        image.save(sent, "png")
        headers = {"Content-Type": "image/png"}
        if self.api_key:
            headers["X-Api-Key"] = self.api_key
        request = Request(f"{server}/v1/remove?{urlencode(options)}", sent.getvalue(), headers)
        try:
            with urlopen(request, timeout=TIMEOUT) as answer:
                picture = Image.open(io.BytesIO(answer.read()))
                picture.load()
                return picture
        except HTTPError as error:
            raise RuntimeError(message_of(error)) from None
        except URLError as error:
            raise RuntimeError(
                f"no server answers at {server} ({error.reason}); start `birefnet serve`"
            ) from None


def message_of(error: HTTPError) -> str:
    """What the server says is wrong."""
    try:
        return json.load(error)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"{error.url.partition('?')[0]} answered {error.code}: is it `birefnet serve`?"
