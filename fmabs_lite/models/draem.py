"""DRAEM: a network that repairs, and a network that judges the repair (chapter 10).

After Zavrtanik, Kristan and Skočaj, ICCV 2021 (https://doi.org/10.1109/ICCV48922.2021.00822), and
the settings of the code they released.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmabs_lite.data.synthesis import Corrupted, corrupt
from fmabs_lite.detector import Detector
from fmabs_lite.models.blocks import block, double
from fmabs_lite.recipe import recorded


def narrow(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(*block(c_in, c_in), *block(c_in, c_out))


def grow(c_in: int, c_out: int) -> nn.Sequential:
    """Double the resolution: bilinear, then a block."""
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), *block(c_in, c_out)
    )


class Repairer(nn.Module):
    """DRAEM's reconstructive network: (B, 3, H, W) to (B, 3, H, W), without skips (chapter 10).

    H and W are multiples of 16. `bottleneck` gives (B, 8 · width, H/16, W/16): at width 128 and
    256² pixels 1024 × 16 × 16. 69 048 579 parameters at width 128.
    """

    def __init__(self, width: int = 128):
        super().__init__()
        w, pool = width, nn.MaxPool2d(2)
        self.encoder = nn.Sequential(
            double(3, w), pool, double(w, 2 * w), pool, double(2 * w, 4 * w), pool,
            double(4 * w, 8 * w), pool,
        )  # fmt: skip
        self.bottleneck = double(8 * w, 8 * w)
        self.decoder = nn.Sequential(
            grow(8 * w, 8 * w), narrow(8 * w, 4 * w), grow(4 * w, 4 * w), narrow(4 * w, 2 * w),
            grow(2 * w, 2 * w), narrow(2 * w, w), grow(w, w), narrow(w, w),
            nn.Conv2d(w, 3, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.bottleneck(self.encoder(x)))


class Judge(nn.Module):
    """DRAEM's discriminative network: a U-Net from the repair and the image to two logits.

    (B, 6, H, W) to (B, 2, H, W); H and W are multiples of 32. `bottleneck` gives
    (B, 8 · width, H/32, W/32), but five skips lead past it. 28 374 146 parameters at width 64.
    """

    def __init__(self, width: int = 64):
        super().__init__()
        w = width
        self.encoder = nn.ModuleList([
            double(6, w), double(w, 2 * w), double(2 * w, 4 * w), double(4 * w, 8 * w),
            double(8 * w, 8 * w),
        ])  # fmt: skip
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = double(8 * w, 8 * w)
        self.up = nn.ModuleList([
            grow(8 * w, 8 * w), grow(8 * w, 4 * w), grow(4 * w, 2 * w), grow(2 * w, w),
            grow(w, w),
        ])  # fmt: skip
        self.decoder = nn.ModuleList([
            double(16 * w, 8 * w), double(12 * w, 4 * w), double(6 * w, 2 * w),
            double(3 * w, w), double(2 * w, w),
        ])  # fmt: skip
        self.last = nn.Conv2d(w, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for encode in self.encoder:
            x = encode(x)
            skips.append(x)
            x = self.pool(x)
        x = self.bottleneck(x)
        for enlarge, decode in zip(self.up, self.decoder, strict=True):
            x = decode(torch.cat([enlarge(x), skips.pop()], dim=1))
        return self.last(x)


@recorded()
class Pair(nn.Module):
    """Both networks: (B, 3, H, W) in [0, 1] to the repair (B, 3, H, W) and logits (B, 2, H, W)."""

    def __init__(self, width: int = 128, disc_width: int = 64):
        super().__init__()
        self.repairer = Repairer(width)
        self.judge = Judge(disc_width)
        self.apply(draw_weights)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.shape[-2] % 32 or x.shape[-1] % 32:
            raise ValueError(
                f"DRAEM got an input of {x.shape[-2]}×{x.shape[-1]} pixels; height and width must "
                "be multiples of 32, because it halves them five times. Choose another size when "
                "loading the data."
            )
        repair = self.repairer(x)
        return repair, self.judge(torch.cat([repair, x], dim=1))


def draw_weights(module: nn.Module) -> None:
    """The released code's first weights: N(0, 0.02), around 1 in batch normalisation."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, 0.02)


@recorded(textures=None)
class Draem(Detector):
    """Learn to repair and to find anomalies that were invented (chapter 10).

    L_o = mean squared error + (1 − SSIM) of the repair, + focal loss of the logits. map_o is the
    judge's probability of an anomaly in (0, 1); S_o is the largest mean of map_o in a square of
    `window` pixels. 97 422 725 parameters at the published widths.

    Args:
        width, disc_width: of `Repairer` and `Judge`.
        textures: uint8 (N, 3, H, W) of the images' size, see `fmabs_lite.data.DTD`. Needed to
            train. They stay where they are, so that many detectors share one copy: put them on
            the images' device once.
        window: 21 pixels in the released code, at 256².
    Raises:
        ValueError: in `prepare` while training, when there are no textures.
    """

    def __init__(
        self, width: int = 128, disc_width: int = 64, textures: Tensor | None = None,
        window: int = 21,
    ):  # fmt: skip
        super().__init__()
        self.network = Pair(width, disc_width)
        self.textures = textures  # no buffer: moving or laying out the detector would copy it
        self.window = window

    def prepare(self, batch: Tensor) -> Corrupted:
        """Corrupt the batch while training; leave it as it is otherwise."""
        if not self.training:
            nothing = torch.zeros_like(batch[:, :1], dtype=torch.bool)
            return Corrupted(batch, batch, nothing)
        if self.textures is None:
            raise ValueError(
                "Draem has no textures to invent anomalies from. Pass textures=DTD(…).images of "
                "the same size as the images."
            )
        return corrupt(batch, self.textures)

    def loss(self, prepared: Corrupted) -> Tensor:
        repair, logits = (part.float() for part in self.network(prepared.input))
        return (
            F.mse_loss(repair, prepared.target)
            + (1 - ssim(repair, prepared.target))
            + focal_loss(logits, prepared.mask)
        )

    def score(self, prepared: Corrupted) -> dict[str, Tensor]:
        _, logits = self.network(prepared.input)
        found = logits.float().softmax(dim=1)[:, 1]
        return {"S_o": largest_mean(found, self.window), "map_o": found}


def largest_mean(maps: Tensor, window: int) -> Tensor:
    """The largest mean of maps (B, H, W) in a square of `window` pixels, zeros outside: (B,)."""
    mean = F.avg_pool2d(maps[:, None], window, stride=1, padding=window // 2)
    return mean.flatten(1).amax(dim=1)


def focal_loss(logits: Tensor, mask: Tensor, gamma: float = 2.0) -> Tensor:
    """−(1 − p)^γ · log p, p the probability of each pixel's true class; the mean over all pixels.

    Lin et al., ICCV 2017, with the same weight for both classes. Chapter 10.

    Args:
        logits: (B, 2, H, W), channel 1 for "anomaly".
        mask: bool (B, 1, H, W).
    """
    log_p = F.log_softmax(logits, dim=1).gather(1, mask.long())
    return -((1 - log_p.exp()) ** gamma * log_p).mean()


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Mean structural similarity of images (B, C, H, W) in [0, 1]; 1 where they are equal.

    Wang et al., 2004: Gaussian windows of 11×11 pixels, σ = 1.5, zeros outside (chapter 10).
    """
    rows, columns = (gaussian(side, a) for side in a.shape[-2:])

    def mean(x: Tensor) -> Tensor:
        return rows @ x @ columns

    with torch.autocast(a.device.type, enabled=False):  # a variance is lost in bf16's 8 bits
        mean_a, mean_b = mean(a), mean(b)
        var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
        both = mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    alike = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    return (alike / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean()


# The sum of the eleven weights: a number, so that no step asks a tensor for it.
WEIGHTS = torch.exp(-(torch.arange(-5.0, 6) ** 2) / (2 * 1.5**2)).sum().item()


def gaussian(side: int, like: Tensor) -> Tensor:
    """The matrix (side, side) that smooths a line of pixels; quicker than a convolution."""
    place = torch.arange(side, device=like.device)
    distance = (place[:, None] - place).abs()
    window = torch.exp(-(distance.to(like.dtype) ** 2) / (2 * 1.5**2)) * (distance <= 5)
    return window / WEIGHTS
