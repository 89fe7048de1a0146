"""What chapters 05 to 08 ask of an attention: its rivals, its masks, and where to look at them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmabs_lite.data.mvtec import Images
from fmabs_lite.mimicry import Boosted
from fmabs_lite.training import Data, collect


class Gated(Boosted):
    """The control: the attention looks at Fea_S and not at Fea_I (chapter 05).

    With channel attention this is squeeze and excitation, with spatial attention the spatial gate
    of CBAM. If it does as well, Fea_I was not the reason.
    """

    def guide(self, fea_t: Tensor, fea_s: Tensor) -> Tensor:
        return fea_s


class Louder(Boosted):
    """The attention looks at Fea_I in units of its own mean over the image (chapter 06).

    L_fea makes Fea_I small, and an attention that is shown small numbers hardly answers. `detach`
    keeps the gradient out of the unit.
    """

    def guide(self, fea_t: Tensor, fea_s: Tensor) -> Tensor:
        fea_i = super().guide(fea_t, fea_s)
        mean = fea_i.mean(dim=(1, 2, 3), keepdim=True)
        return fea_i / (mean.detach() + 1e-6)


class Still(nn.Module):
    """An attention that no longer looks: the same M for every image (chapter 05).

    Args:
        m: the mask, of a shape that broadcasts to the feature (B, C, H, W).
    """

    def __init__(self, m: Tensor):
        super().__init__()
        self.register_buffer("m", m)

    def forward(self, fea_i: Tensor) -> Tensor:
        """M, whatever Fea_I is."""
        return self.m


def watched(student: Boosted, images: Data) -> tuple[Tensor, Tensor]:
    """What a student's attention is given, and the M it answers (chapter 06).

    Args:
        student: with an attention at its first tapped layer, which runs once for each image.
        images: uint8, (N, 3, H, W).
    Returns:
        Two blocks on the CPU, (N, C, h, w) and M's own shape behind N.
    """
    seen = []
    hook = student.attention[0].register_forward_hook(
        lambda module, given, m: seen.append((given[0].cpu(), m.cpu()))
    )
    collect(student, images)
    hook.remove()
    given, m = zip(*seen, strict=True)
    return torch.cat(given), torch.cat(m)


class Places:
    """Where the defects lie in a feature, and the same places of normal parts (chapter 06).

    Defects lie on the part, and what is beside them is mostly table. So each defective image has a
    `partner`: the normal test image most like it, where the same places show the same part.

    Args:
        test: the test images' masks (N, H, W) and labels.
        images: the test images as the detector sees them, uint8, (N, 3, H, W).
        stride: side of a place in pixels; a place is a defect's if one pixel of its mask is in it.
    """

    def __init__(self, test: Images, images: Tensor, stride: int = 8):
        self.bad = test.labels == 1
        masks = test.masks.float()[:, None]
        self.defects = F.max_pool2d(masks, stride)[:, 0] > 0
        coarse = F.avg_pool2d(images.float(), stride).flatten(1)
        apart = torch.cdist(coarse[self.bad], coarse[~self.bad])
        normal = (~self.bad).nonzero()[:, 0]
        self.partner = normal[apart.argmin(dim=1)]

    def inside(self, block: Tensor) -> Tensor:
        """A block (N, …, h, w) at the defects: (places, …)."""
        return block.movedim((-2, -1), (1, 2))[self.defects]

    def same(self, block: Tensor) -> Tensor:
        """The block at the same places of the partners: (places, …)."""
        partners = block.movedim((-2, -1), (1, 2))[self.partner]
        return partners[self.defects[self.bad]]
