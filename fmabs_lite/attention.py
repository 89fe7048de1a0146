"""Three attention modules that look at the inconsistency, not at the feature (chapters 05 to 07).

Each takes Fea_I = |Fea_T − Fea_S|, (B, C, H, W), and returns a mask M with values in (0, 1) that
multiplies Fea_S. They differ in what M can tell apart: channels, places, or both.
"""

import torch
from torch import Tensor, nn

from fmabs_lite.recipe import recorded


@recorded()
class ChannelAttention(nn.Module):
    """Which channels disagree (FMABS Fig. 2a, chapter 05).

    Average over the places, two fully connected layers c → c/r → c with a ReLU between them, and
    a sigmoid. The module is that of squeeze and excitation (Hu et al. 2018); what it is fed with
    is not. With few hidden units, first weights may leave none alive: of four in about one case of
    twenty, of eight in none that chapter 05 saw. In a narrow network choose a smaller r.

    Args:
        channels: c, the channels of Fea_I.
        reduction: r; the paper names no value, squeeze and excitation has 16.
    Raises:
        ValueError: when c/r is less than one.
    """

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        hidden = reduced(channels, reduction)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    def forward(self, fea_i: Tensor) -> Tensor:
        """Map Fea_I (B, C, H, W) to M (B, C, 1, 1)."""
        mean = fea_i.mean(dim=(2, 3))
        return self.excite(self.squeeze(mean).relu()).sigmoid()[:, :, None, None]


@recorded()
class SpatialAttention(nn.Module):
    """Which places disagree (FMABS Fig. 2b, chapter 06).

    Average and maximum over the channels, one convolution over the two maps, and a sigmoid.

    Args:
        kernel_size: side of the convolution; the paper names none, CBAM (Woo et al. 2018) has 7.
    Raises:
        ValueError: when the kernel's side is even, so that it has no middle.
    """

    def __init__(self, kernel_size: int = 7):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, odd(kernel_size), padding=kernel_size // 2)

    def forward(self, fea_i: Tensor) -> Tensor:
        """Map Fea_I (B, C, H, W) to M (B, 1, H, W)."""
        maps = [fea_i.mean(dim=1, keepdim=True), fea_i.amax(dim=1, keepdim=True)]
        return self.conv(torch.cat(maps, dim=1)).sigmoid()


@recorded()
class SpatioChannelAttention(nn.Module):
    """The disagreement itself becomes the mask: M = σ(D(ReLU(E(Fea_I)))) (FMABS eq. 2, chapter 07).

    E and D are convolutions c → c/r → c. M has the shape of the feature; the paper prints h × w,
    which cannot be, because D gives back all c channels.

    Args:
        channels: c, the channels of Fea_I.
        reduction: r; the paper names no value.
        kernel_size: k, side of both convolutions; the paper names no value.
    Raises:
        ValueError: when c/r is less than one, or k is even.
    """

    def __init__(self, channels: int, reduction: int = 8, kernel_size: int = 1):
        super().__init__()
        hidden, around = reduced(channels, reduction), odd(kernel_size) // 2
        self.encode = nn.Conv2d(channels, hidden, kernel_size, padding=around)
        self.decode = nn.Conv2d(hidden, channels, kernel_size, padding=around)

    def forward(self, fea_i: Tensor) -> Tensor:
        """Map Fea_I (B, C, H, W) to M (B, C, H, W)."""
        return self.decode(self.encode(fea_i).relu()).sigmoid()


def reduced(channels: int, reduction: int) -> int:
    """c/r, the hidden width of an attention module; a ValueError when it is less than one."""
    if not 1 <= reduction <= channels:
        raise ValueError(
            f"reduction={reduction} with channels={channels} leaves no hidden unit: c/r must be at "
            f"least 1, and better 4 or more. Choose a reduction from 1 to {channels}."
        )
    return channels // reduction


def odd(kernel_size: int) -> int:
    """The kernel's side, if it has a middle; a ValueError if not."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(
            f"kernel_size={kernel_size}: an even kernel has no middle, so that M would be shifted "
            "and of another size than Fea_I. Choose 1, 3, 5 or 7."
        )
    return kernel_size
