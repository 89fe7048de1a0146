"""Building blocks that several systems share (chapters 10 and 11)."""

from torch import nn


def block(c_in: int, c_out: int) -> nn.Sequential:
    """A 3×3 convolution that keeps the resolution, batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)
    )


def double(c_in: int, c_out: int) -> nn.Sequential:
    """Two blocks; the first sets the channels."""
    return nn.Sequential(*block(c_in, c_out), *block(c_out, c_out))
