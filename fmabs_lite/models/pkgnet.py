"""PKG-Net: predict an object's next frame, with what another network knows in mind (chapter 12).

After Deng, Chen and Deng, MMAsia 2023 (https://arxiv.org/abs/2309.01682), and the settings of the
code they released.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmabs_lite.detector import Detector, Prepared
from fmabs_lite.models.blocks import double
from fmabs_lite.models.prior import Prior
from fmabs_lite.recipe import recorded


def strided(c_in: int, c_out: int) -> nn.Sequential:
    """Halve the resolution with a convolution of stride 2, then two blocks."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, 2, padding=1), double(c_out, c_out))


def pooled(c_in: int, c_out: int) -> nn.Sequential:
    """Halve the resolution with a maximum, then two blocks."""
    return nn.Sequential(nn.MaxPool2d(2), double(c_in, c_out))


def doubled(c_in: int, c_out: int) -> nn.ConvTranspose2d:
    """Double the resolution with a transposed 3×3 convolution."""
    return nn.ConvTranspose2d(c_in, c_out, 3, 2, padding=1, output_padding=1)


@recorded()
class CubeNet(nn.Module):
    """PKG-Net's auto-encoder: (B, c_in, H, W) to a frame (B, c_out, H, W) and k features (ch. 12).

    H and W are multiples of 8; published are 32. `bottleneck` gives (B, 8 · width, H/8, W/8), 512
    × 4 × 4 as published. With k = 1 it halves by convolutions, three skips lead past the
    bottleneck, and the bottleneck is the one feature. With k = 2 it halves by maxima, the deepest
    skip is left out, and `decoder.0`, (B, 4 · width, H/4, W/4), is the second feature.
    """

    def __init__(self, k: int, c_in: int, c_out: int, width: int):
        super().__init__()
        w, self.k = width, k
        half = strided if k == 1 else pooled
        self.encoder = nn.ModuleList([double(c_in, w), half(w, 2 * w), half(2 * w, 4 * w)])
        self.bottleneck = half(4 * w, 8 * w)
        self.up = nn.ModuleList([doubled(8 * w, 4 * w), doubled(4 * w, 2 * w), doubled(2 * w, w)])
        first = double(8 * w if k == 1 else 4 * w, 4 * w)
        self.decoder = nn.ModuleList([first, double(4 * w, 2 * w), double(2 * w, w)])
        self.last = nn.Conv2d(w, c_out, 1)
        self.apply(draw_kaiming)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        if x.shape[-2] % 8 or x.shape[-1] % 8:
            raise ValueError(
                f"PKG-Net got cubes of {x.shape[-2]}×{x.shape[-1]} pixels; both must be multiples "
                "of 8, because it halves them three times. Choose another size for Cubes."
            )
        skips = []
        for encode in self.encoder:
            x = encode(x)
            skips.append(x)
        if self.k == 2:
            skips[-1] = skips[-1][:, :0]
        x = self.bottleneck(x)
        features = [x]
        for enlarge, decode in zip(self.up, self.decoder, strict=True):
            x = decode(torch.cat([skips.pop(), enlarge(x)], dim=1))
            features.append(x)
        return self.last(x), features[: self.k]


def draw_kaiming(module: nn.Module) -> None:
    """The released code's first weights: Kaiming's, with slope 0.1, and N(1, 0.02) for scales."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, a=0.1)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, 0.02)


def gradient_loss(predicted: Tensor, true: Tensor, exponent: float = 3.0) -> Tensor:
    """How much the edges differ: the mean of |∂x error|³ + |∂y error|³ (chapter 12).

    The error is summed over the channels first, and is 0 outside of the frame to the left and
    above, as in the released code.

    Args:
        predicted, true: (B, C, H, W).
    """
    error = (predicted - true).sum(dim=1)
    across = F.pad(error, (1, 0, 0, 0)).diff(dim=2).abs()
    down = F.pad(error, (0, 0, 1, 0)).diff(dim=1).abs()
    return (across**exponent + down**exponent).mean()


def imitation(said: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """1 − cosine over the channels, averaged over positions and over the features: (B,), ch. 12.

    Args:
        said, wanted: equally many features (B, C, H, W), of equal shapes.
    """
    apart = [1 - F.cosine_similarity(s, w, dim=1) for s, w in zip(said, wanted, strict=True)]
    return torch.stack([a.mean(dim=(1, 2)) for a in apart]).mean(dim=0)


@recorded()
class PkgNet(Detector):
    """Predict the last frame of a cube, and imitate a prior's features of it (chapter 12).

    L_o = 0.8 · squared error + 0.1 · `gradient_loss` + 0.2 · `imitation`. Raw parts: S_o and map_o,
    the squared error; S_prior, the imitation, where there is a prior. At the published width, in
    colour, 11 665 923 parameters for k = 1 and 7 978 627 for k = 2.

    Args:
        k: how many of the prior's layers are imitated, which also changes the auto-encoder; 1
            for Avenue and ShanghaiTech, 2 for Ped2.
        width: channels of the first block; the bottleneck has eight times as many.
        channels: of a frame, 1 or 3. frames: seen before the one that is predicted.
        prior: whose features to imitate, e.g. `imagenet("resnet50")`; None for a plain predictor
            of frames.
        frozen_norm: the released code never leaves eval mode, so that batch normalisation is a
            learnt scale and shift with mean 0 and variance 1. False, our default, normalises.
    Raises:
        ValueError: for another k; in `loss` and `score`, when prior and network do not fit.
    """

    def __init__(
        self, k: int = 1, width: int = 64, channels: int = 3, frames: int = 4,
        prior: Prior | None = None, frozen_norm: bool = False,
    ):  # fmt: skip
        super().__init__()
        if k not in (1, 2):
            raise ValueError(f"k is {k!r}; PKG-Net imitates 1 or 2 layers.")
        self.network = CubeNet(k, channels * frames, channels, width)
        self.length, self.prior, self.frozen_norm = frames + 1, prior, frozen_norm

    def frozen(self) -> dict[str, nn.Module]:
        return {} if self.prior is None else {"prior": self.prior.network}

    def train(self, mode: bool = True) -> "PkgNet":
        super().train(mode)
        if self.frozen_norm:
            self.network.eval()
        return self

    def prepare(self, batch: Tensor) -> Prepared:
        """(B, length, C, H, W) in [0, 1]: all frames but the last as channels, and the last."""
        if batch.shape[1] != self.length:
            raise ValueError(
                f"batch has cubes of {batch.shape[1]} frames, but this PKG-Net takes "
                f"{self.length}. Give Cubes a length of {self.length}."
            )
        return Prepared(input=batch[:, :-1].flatten(1, 2), target=batch[:, -1])

    def loss(self, prepared: Prepared) -> Tensor:
        frame, said = self.network(prepared.input)
        frame = frame.float()
        loss = 0.8 * F.mse_loss(frame, prepared.target)
        loss = loss + 0.1 * gradient_loss(frame, prepared.target)
        if self.prior is None:
            return loss
        return loss + 0.2 * imitation(*self._pairs(said, prepared.target)).mean()

    def score(self, prepared: Prepared) -> dict[str, Tensor]:
        frame, said = self.network(prepared.input)
        error = (frame.float() - prepared.target) ** 2
        parts = {"S_o": error.mean(dim=(1, 2, 3)), "map_o": error.mean(dim=1)}
        if self.prior is None:
            return parts
        return parts | {"S_prior": imitation(*self._pairs(said, prepared.target))}

    def _pairs(self, said: list[Tensor], target: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        wanted = self.prior.features(target)[: len(said)]
        ours, theirs = ([tuple(f.shape[1:]) for f in features] for features in (said, wanted))
        if ours != theirs:
            raise ValueError(
                f"PKG-Net's features are {ours}, the prior's {theirs} (channels, height, width). "
                "Choose the width so that they fit: an eighth of the prior's channels."
            )
        return [feature.float() for feature in said], wanted
