"""Counts the heads of TransNAS-Bench-101's seven tasks, and defines the images they take.

| task | image | head |
|---|---|---|
| class_scene, class_object, room_layout | 256 | average over all pixels, linear layer to 63, 100, 9 numbers |
| jigsaw | nine tiles of 64 | channels of the nine tiles side by side, averaged, linear layer to 1000 permutations |
| autoencoder, normal | 256 | 13 convolutions and transposed convolutions back to 256 pixels, then one to 3 channels |
| segmentsemantic | 256 | 7 of them, then one to 17 channels |

One encoder takes the nine tiles of a jigsaw one after the other, and the published figures count it for one tile; the
average and the linear layer are counted for all nine. Discriminators, which help to train autoencoder and normal, are
not counted.

A decoder upsamples ``log2(256 / side)`` times, rounded down, where ``side`` is computed as for images of 224 pixels: 56
before the first module, then halved and rounded down by each module that halves. For the images of 256 pixels this
gives outputs of exactly 256 pixels.

Source: the networks as NASLib (github.com/automl/NASLib) builds them, after Duan et al., CVPR 2021, arXiv 2105.11871.
"""

from __future__ import annotations

import dataclasses

from ncp_jax.spaces.costs.layers import Counts, batch_norm, convolution, relu
from ncp_jax.spaces.costs.model import network_words

IMAGE = 256
NOMINAL_SIDE = 56  # side of the stem's output by which decoders count their upsamplings
UPSAMPLINGS = (2, 6)  # fewest and most; codes have 3 to 6, relaxed codes also weigh networks that no code has
TILES = 9

# Outputs of the generator's 13 layers, and from how many upsamplings on a layer is transposed; 0: never.
_GENERATOR = (
    (1024, 0),
    (1024, 0),
    (512, 6),
    (512, 0),
    (256, 5),
    (128, 0),
    (64, 4),
    (64, 0),
    (32, 3),
    (32, 0),
    (16, 2),
    (32, 0),
    (16, 2),
)


@dataclasses.dataclass(frozen=True)
class Head:
    """The head of a task, and the images of its encoder.

    Attributes:
      kind: "linear", "generator" or "segmentation".
      outputs: number of outputs or output channels.
      image: side of the encoder's input, pixels.
      views: number of images that the encoder takes for one example.
    """

    kind: str
    outputs: int
    image: int = IMAGE
    views: int = 1

    def words(self, task: str) -> str:
        """Returns the network of a task in words."""
        classes = self.outputs if self.kind != "generator" and task != "room_layout" else 0
        return network_words(task, side=self.image, classes=classes, pieces="tiles" if self.views > 1 else "")


HEADS = {
    "class_scene": Head("linear", 63),
    "class_object": Head("linear", 100),
    "room_layout": Head("linear", 9),
    "jigsaw": Head("linear", 1000, image=64, views=TILES),
    "segmentsemantic": Head("segmentation", 17),
    "normal": Head("generator", 3),
    "autoencoder": Head("generator", 3),
}


def head_counts(head: Head, channels: int, side: int, halvings: int) -> Counts:
    """Returns the counts of a head.

    Args:
      head: the head.
      channels: channels of the encoder's output.
      side: side of the encoder's output, pixels.
      halvings: number of modules of the encoder that halve the resolution.
    """
    if head.kind == "linear":
        inputs = channels * head.views
        averaging = inputs * (side + 1) ** 2
        return Counts(inputs * head.outputs + head.outputs, inputs * head.outputs + averaging)
    nominal = max(1, NOMINAL_SIDE >> halvings)
    upsamplings = min(max((IMAGE // nominal).bit_length() - 1, UPSAMPLINGS[0]), UPSAMPLINGS[1])
    total, last = Counts(), channels
    for width, transposed in decoder_layers(head.kind, upsamplings):
        if transposed:
            side = 2 * side
            total += Counts(9 * last * width + width, 0)
        else:
            total += convolution(3, last, width, side, bias=True)
        total += batch_norm(width, side) + relu(width, side)
        last = width
    return total + convolution(3, last, head.outputs, side, bias=True)


def decoder_layers(kind: str, upsamplings: int) -> list[tuple[int, bool]]:
    """Returns a decoder's 3x3 layers before the last: output channels, and whether it is transposed (doubles sides)."""
    if kind == "generator":
        return [(width, 0 < since <= upsamplings) for width, since in _GENERATOR]
    keeping = UPSAMPLINGS[1] - upsamplings  # layers behind the first that keep the side
    halving = [(1024 >> step, step > keeping) for step in range(UPSAMPLINGS[1])]
    return [*halving, (halving[-1][0], True)]
