"""AST-MFR: two networks of different build agree on what is normal (chapter 14).

After Gu, Li and Liu, Multimedia Tools and Applications 2024
(https://doi.org/10.1007/s11042-024-18512-5). No code was released; where the paper is silent, the
docstrings say what was chosen.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from torch import Tensor, nn
from torch.nn import functional as F

from fmabs_lite.detector import Detector
from fmabs_lite.mimicry import inconsistency, one_for_each, refined
from fmabs_lite.models.backbones import NETWORKS, Backbone
from fmabs_lite.recipe import recorded
from fmabs_lite.scoring import smooth

STAGES = (1, 2, 3)


def draw_mask(features: Tensor, rate: float) -> Tensor:
    """Where a feature is kept: 0 with probability `rate`, else 1 (Algorithm 1, chapter 14).

    One mask for each sample, the same for all channels; the algorithm as printed draws one for
    the whole batch. What is kept is not enlarged to make up for the rest. Drawn on the CPU from
    torch's global generator.

    Args:
        features: (B, C, h, w).
        rate: r, the share that is set to zero.
    Returns:
        (B, 1, h, w), of the features' type and device.
    """
    b, _, h, w = features.shape
    return torch.where(torch.rand(b, 1, h, w) < rate, 0, 1).to(features, non_blocking=True)


class Mfr(nn.Module):
    """Masked feature regeneration: two 3×3 convolutions fill in what a mask took away (chapter 14).

    The paper says "two convolutional layers". Its parameter counts fix 3×3 and C → C; the ReLU
    between them is ours, as in masked generative distillation, which the paper does not cite.

    Args:
        channels: C of the teacher's feature, and of what is returned.
        aligned_from: channels of the student's feature; where they differ, a 1×1 convolution
            brings them to C first.
        generate: False for the alignment alone.
    """

    def __init__(self, channels: int, aligned_from: int | None = None, generate: bool = True):
        super().__init__()
        c = channels
        same = aligned_from in (None, c)
        self.align = nn.Identity() if same else nn.Conv2d(aligned_from, c, 1)
        self.generate = nn.Sequential(
            nn.Conv2d(c, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, c, 3, padding=1)
        ) if generate else nn.Identity()  # fmt: skip

    def forward(self, feature: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (B, C_student, h, w) and a mask (B, 1, h, w) or None to (B, C, h, w)."""
        return self.regenerate(self.align(feature), mask)

    def regenerate(self, aligned: Tensor, mask: Tensor | None = None) -> Tensor:
        """f_reg = G(f ⊙ Mask) of a feature that has the teacher's channels (Algorithm 1)."""
        return self.generate(aligned if mask is None else aligned * mask)


def cosine_distance(t: Tensor, s: Tensor) -> Tensor:
    """D_cos = 1 − t · s / (‖t‖ ‖s‖) at each position (AST-MFR eq. 1, chapter 14).

    Args:
        t, s: features of teacher and student, (B, C, h, w).
    Returns:
        (B, h, w) in [0, 2]; 1 where a vector is zero.
    """
    return 1 - F.cosine_similarity(t, s, dim=1)


def unit_distance(t: Tensor, s: Tensor) -> Tensor:
    """D_L2 = ½ ‖ s / ‖s‖ − t / ‖t‖ ‖² at each position (AST-MFR eq. 3, chapter 14).

    It is `cosine_distance` again, because ½ ‖a − b‖² = 1 − a · b for unit vectors. They differ by
    rounding, and where a vector is zero.

    Args:
        t, s: features of teacher and student, (B, C, h, w).
    Returns:
        (B, h, w) in [0, 2].
    """
    return (F.normalize(s, dim=1) - F.normalize(t, dim=1)).square().sum(dim=1) / 2


class Shown(NamedTuple):
    """Images, what the teacher says about them, and what the student's features will lose.

    input: (B, 3, H, W) in [0, 1]. target: the teacher's features, one (B, C, h, w) for each stage.
    masks: one (B, 1, h, w) for each stage, or None where nothing is masked.
    """

    input: Tensor
    target: list[Tensor]
    masks: list[Tensor | None]


@recorded(teacher_weights=None, student_weights=None)
class AstMfr(Detector):
    """A student of another build mimics three stages of a frozen teacher (chapter 14).

    While training, positions of the student's features are masked at random, and an `Mfr` block
    at each stage gives the teacher's features back. The student's next stage works on the feature
    as it was before. Scoring masks nothing and keeps the blocks. L_o = L_cos + α · L_2 (eq. 2, 4
    and 5): means over positions, summed over the stages. map_o (B, H, W) adds up the distances of
    the three stages, each enlarged bilinearly to the input's size; S_o is its largest value. The
    paper smooths the map first, see `mfr_smooth`.

    The teacher stays in eval mode. It is no parameter, and the state_dict holds its fingerprint
    alone: build the detector with the same teacher before loading one. Where the student's
    features have another height or width, they are resized to the teacher's, bilinearly. Trained
    parameters as published: 33.2 M, 49.6 M with wide_resnet50_2 as the student.

    Args:
        teacher, student: one of `NETWORKS`, or a network that maps images (B, 3, H, W) in [0, 1] to
            three features; what its training subtracted and divided by it does itself, as a
            `Backbone` does. Of a teacher that is given as a network a copy is frozen.
        mask_rate: r, the share of positions masked; the paper found 0.3 and 0.5 best.
        alpha: α, weight of L_2. As both distances are one and the same, it only scales the loss.
        stages: which stages have a block; the others are compared as they are.
        regenerate: False for no masks and no blocks at any stage, the paper's network without MFR.
        teacher_weights, student_weights: see `Backbone`; not used for a network that is given.
        attention: three modules from Fea_I = |Fea_T − Fea_S| to a mask M, one for each stage, as
            in `fmabs_lite.attention`. Fea_S ⊙ M is then what is masked and regenerated. Fea_S has
            been brought to the teacher's channels and size. None, as published: no attention.
    Raises:
        ValueError: for stages, a rate or an attention that do not fit, or a network that does not
            return three features; and as `Backbone`.
        RuntimeError: as `Backbone`.
    """

    def __init__(
        self, teacher: str | nn.Module = "wide_resnet50_2",
        student: str | nn.Module = "resnext50_32x4d", mask_rate: float = 0.5, alpha: float = 1.0,
        stages: Sequence[int] = STAGES, regenerate: bool = True,
        teacher_weights: Path | str | None = "", student_weights: Path | str | None = "",
        attention: Sequence[nn.Module] | None = None,
    ):  # fmt: skip
        super().__init__()
        refuse_setting(mask_rate, stages)
        self.mask_rate, self.alpha = mask_rate, alpha
        self.attention = one_for_each([f"stage {n}" for n in STAGES], attention)
        if isinstance(teacher, str):
            teacher = Backbone(teacher, teacher_weights)
        else:
            teacher = copy.deepcopy(teacher)
        # In a tuple nn.Module does not find it: nobody trains it, saves it or takes it out of eval.
        self._teacher = (teacher.eval().requires_grad_(False),)
        self.network = Backbone(student, student_weights) if isinstance(student, str) else student
        self.stages = tuple(stages) if regenerate else ()
        widths = zip(STAGES, widths_of(teacher), widths_of(self.network), strict=True)
        self.mfr = nn.ModuleList(Mfr(t, s, generate=n in self.stages) for n, t, s in widths)

    @property
    def teacher(self) -> nn.Module:
        return self._teacher[0]

    def frozen(self) -> dict[str, nn.Module]:
        return {"teacher": self.teacher}

    def prepare(self, batch: Tensor) -> Shown:
        """(B, 1 or 3, H, W) in [0, 1]: ask the teacher, and while training draw masks."""
        images = batch.expand(-1, 3, -1, -1)
        with torch.no_grad():
            target = list(self.teacher(images))
        masked = self.stages if self.training else ()
        masks = [
            draw_mask(fea_t, self.mask_rate) if n in masked else None
            for n, fea_t in zip(STAGES, target, strict=True)
        ]
        return Shown(images, target, masks)

    def loss(self, prepared: Shown) -> Tensor:
        return sum(distance.mean() for distance in self.distances(prepared))

    def score(self, prepared: Shown) -> dict[str, Tensor]:
        size = prepared.input.shape[-2:]
        found = sum(bilinear(d[:, None], size)[:, 0] for d in self.distances(prepared))
        return {"S_o": found.amax(dim=(1, 2)), "map_o": found}

    def distances(self, prepared: Shown) -> list[Tensor]:
        """D_cos + α · D_L2 of each stage: three maps (B, h, w)."""
        fea_s = self.network(prepared.input)
        maps = []
        for k, t in enumerate(prepared.target):
            s = self.mimic(k, t, fea_s[k], prepared.masks[k]).float()
            t = t.float()
            maps.append(cosine_distance(t, s) + self.alpha * unit_distance(t, s))
        return maps

    def mimic(self, k: int, fea_t: Tensor, fea_s: Tensor, mask: Tensor | None) -> Tensor:
        """What the student makes of stage k + 1: align, attend, mask, regenerate."""
        fea_s = self.mfr[k].align(bilinear(fea_s, fea_t.shape[-2:]))
        if self.attention is not None:
            fea_s = refined(fea_s, self.attention[k](inconsistency(fea_t, fea_s)))
        return self.mfr[k].regenerate(fea_s, mask)

    def _apply(self, fn, recurse=True):
        self.teacher._apply(fn)  # .to(device) takes the teacher along
        return super()._apply(fn, recurse)


def refuse_setting(mask_rate: float, stages: Sequence[int]) -> None:
    """Raise a ValueError when a setting of `AstMfr` cannot be."""
    if not 0 <= mask_rate < 1:
        raise ValueError(
            f"mask_rate is {mask_rate}; it is the share of positions that are masked, from 0 to "
            "less than 1, or nothing is left to regenerate from."
        )
    if not set(stages) <= set(STAGES):
        raise ValueError(f"stages is {tuple(stages)}; choose among 1, 2 and 3.")


@torch.no_grad()
def widths_of(network: nn.Module) -> list[int]:
    """The channels of a network's three features, found by showing it an empty image."""
    device = next(network.parameters()).device
    mode = network.training
    features = network.eval()(torch.zeros(1, 3, 64, 64, device=device))
    network.train(mode)
    fits = isinstance(features, (list, tuple)) and len(features) == len(STAGES)
    if not fits or any(getattr(feature, "ndim", 0) != 4 for feature in features):
        raise ValueError(
            f"{type(network).__name__} must return a list of three features (B, C, h, w), one for "
            f"each stage; it returned {described(features)}. Wrap it so that it does, or name one "
            f"of {', '.join(NETWORKS)}."
        )
    return [feature.shape[1] for feature in features]


def described(output) -> str:
    """What a network returned, for a message: its type, and its length if it has one."""
    many = f" of {len(output)}" if isinstance(output, (list, tuple, dict)) else ""
    return f"a {type(output).__name__}{many}"


def bilinear(maps: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, h, w) resized bilinearly to (B, C, *size); unchanged where it has that size."""
    if maps.shape[-2:] == tuple(size):
        return maps
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)


def mfr_smooth(maps: np.ndarray, sigma: float = 4.0, side: int = 5) -> np.ndarray:
    """Smooth maps as AST-MFR does: a Gaussian, then the mean of side × side pixels (chapter 14).

    The paper gives σ = 4 and k = 5 for images of 256 × 256 pixels. The edges, of which it says
    nothing, are mirrored, so that the rim does not fade. The image's score is the `peak` of the
    result.

    Args:
        maps: (N, H, W).
    """
    return uniform_filter(smooth(maps, sigma), size=(0, side, side), mode="reflect")
