"""BiRefNet: an encoder that localises, a decoder that reconstructs (paper Fig. 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, overload

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    from torch import Tensor, nn

from birefnet.network.config import NetworkConfig
from birefnet.network.decoder import Decoder
from birefnet.network.encoder import Encoder, PyramidNeck
from birefnet.network.guidance import PICTURE_CHANNELS

if TYPE_CHECKING:
    from birefnet.imaging.geometry import Preprocess


@dataclass
class SupervisedOutput:
    """Everything that training supervises.

    Attributes:
        stages: logits, (B,1,h,w) each: coarse maps at strides 32, 16, 8 (with multi-scale
            supervision), then the final ones at full size.
        gradients: gradient logits of the outward reference at strides 32, 16, 8; may be empty.
        classes: logits (B, classes) of the auxiliary head, or `None`.
    """

    stages: list[Tensor]
    gradients: list[Tensor]
    classes: Tensor | None

    @property
    def logits(self) -> Tensor:
        """The final logits (B,1,H,W)."""
        return self.stages[-1]


class BiRefNet(nn.Module):
    """Bilateral Reference network, composed from an encoder, a squeeze module and a decoder.

    Args:
        encoder: localisation module.
        squeeze: maps the encoder's context to x4's channels; `None` hands x4 on.
        decoder: reconstruction module.
        neck: between encoder and decoder, for a backbone whose maps share one stride; or `None`.
        classifier: linear layer on the average of x4 or of the context, or `None`.
        config: the description this network was built from.

    Attributes:
        preprocess: how pictures are prepared for its weights; `None` while they are random.
    """

    def __init__(
        self,
        encoder: Encoder,
        squeeze: nn.Module | None,
        decoder: Decoder,
        *,
        neck: PyramidNeck | None = None,
        classifier: nn.Linear | None = None,
        config: NetworkConfig,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.squeeze = squeeze
        self.neck = neck
        self.decoder: nn.Module = decoder
        self.classifier = classifier
        self.config = config
        self.preprocess: Preprocess | None = None

    @overload
    def forward(self, image: Tensor, supervised: Literal[False] = False) -> Tensor: ...
    @overload
    def forward(self, image: Tensor, supervised: Literal[True]) -> SupervisedOutput: ...

    def forward(self, image: Tensor, supervised: bool = False) -> Tensor | SupervisedOutput:
        """Normalised `image` (B,3,H,W) → logits (B,1,H,W); sigmoid gives the matte.

        H and W must be multiples of 32 (the predictor resizes any picture to such a size). With
        `supervised`, a `SupervisedOutput` with all that the losses need. A network with a guidance
        channel also takes (B,4,H,W), see `birefnet.network.guidance`.

        Raises:
            ValueError: the batch has another shape.
        """
        channels = (PICTURE_CHANNELS, PICTURE_CHANNELS + self.config.guidance_channel)
        if image.dim() != 4 or image.shape[1] not in channels:
            guided = " or (B, 4, H, W)" if self.config.guidance_channel else ""
            raise ValueError(
                f"got a batch of shape {tuple(image.shape)}; expected (B, 3, H, W){guided}: "
                "normalise and stack RGB pictures first"
            )
        height, width = image.shape[-2:]
        if height % 32 or width % 32 or not (height and width):
            raise ValueError(
                f"got {height}x{width} pixels; expected multiples of 32 in both directions: resize "
                "or pad the batch (Predictor does it for any size)"
            )
        maps, context = self.encoder(image)
        classes = None
        if supervised and self.classifier is not None:
            read = context if self.config.classifier_input == "context" else maps[-1]
            classes = self.classifier(read.mean(dim=(2, 3)))
        squeezed = context if self.squeeze is None else self.squeeze(context)
        if self.neck is not None:
            maps = self.neck([*maps[:3], squeezed], (height, width))
            squeezed = maps[-1]
        is_guided = image.shape[1] > PICTURE_CHANNELS
        picture = image[:, :PICTURE_CHANNELS] if is_guided else image
        stages, gradients = self.decoder(squeezed, maps, picture, supervised=supervised)
        if not supervised:
            return stages[-1]
        return SupervisedOutput(stages, gradients, classes)
