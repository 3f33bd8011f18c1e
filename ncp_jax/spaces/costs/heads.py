"""The heads of TransNAS-Bench-101's seven tasks, and the images they look at.

| task | image | head |
|---|---|---|
| class_scene, class_object, room_layout | 256 | average over all pixels, linear layer to 63, 100, 9 numbers |
| jigsaw | nine tiles of 64 | channels of the nine tiles side by side, averaged, linear layer to 1000 permutations |
| autoencoder, normal | 256 | 13 convolutions and transposed convolutions back to 256 pixels, then one to 3 channels |
| segmentsemantic | 256 | 7 of them, then one to 17 channels |

One encoder sees the nine tiles of a jigsaw one after the other, and the published figures count it for ONE tile; the
average and the linear layer are counted for all nine. Discriminators, which help to train autoencoder and normal, are
not counted.

A decoder upsamples as often as an encoder for images of 224 would need to come to 256 pixels: ``log2(256 / side)``
times, rounded down, with sides of 56 before the first module, each halving rounded down. For the images of 256 that is
exactly back to 256.

Source: the networks as NASLib (github.com/automl/NASLib) builds them, after Duan et al., CVPR 2021, arXiv 2105.11871.
"""

from __future__ import annotations

import dataclasses

from ncp_jax.spaces.costs.layers import Counts, batch_norm, convolution, relu

IMAGE = 256
NOMINAL_SIDE = 56  # of the stem's output, as the decoders reckon it
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
    """What a task puts behind the encoder.

    Attributes:
      kind: "linear", "generator" or "segmentation".
      outputs: numbers or channels that come out.
      image: pixels a side of what the encoder sees.
      views: how many images share the encoder.
    """

    kind: str
    outputs: int
    image: int = IMAGE
    views: int = 1


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
    """What a head costs.

    Args:
      head: the head.
      channels: of the encoder's output.
      side: of the encoder's output, pixels.
      halvings: how many modules of the encoder halve the resolution.
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
    """A decoder's 3x3 layers before the last: output channels, and whether it is transposed and doubles the sides."""
    if kind == "generator":
        return [(width, 0 < since <= upsamplings) for width, since in _GENERATOR]
    plain = UPSAMPLINGS[1] - upsamplings
    halving = [(1024 >> step, step > plain) for step in range(UPSAMPLINGS[1])]
    return [*halving, (halving[-1][0], True)]
