"""How bright an image is, and a way to take that out (chapter 03)."""

import torch
from torch import Tensor


def brightness(images: Tensor) -> Tensor:
    """Mean grey level of each image: uint8 (N, C, H, W) to float32 (N,), in 0…255."""
    return images.float().mean(dim=(1, 2, 3))


def level(images: Tensor, target: float) -> Tensor:
    """Scale each image so that its brightness is `target`; uint8 (N, C, H, W) in and out.

    Where light differs between the good and the bad images of a test set, a score can find the
    light instead of the defect. Values that would pass 255 are cut off there.
    """
    gain = target / brightness(images).clamp(min=1).view(-1, 1, 1, 1)
    return (images.float() * gain).clamp(0, 255).round().to(torch.uint8)
