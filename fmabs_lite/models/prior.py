"""What a network learnt from other pictures: the features that PKG-Net imitates (chapter 12)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from fmabs_lite.models.backbones import MEAN, NETWORKS, STD, normalised, pretrained
from fmabs_lite.recipe import recorded
from fmabs_lite.taps import Teacher

# How it is built, and the layers that halve a picture three times and twice. A PKG-Net fits whose
# width is an eighth of the first layer's channels.
PRIORS = {
    name: (NETWORKS[name].build, at)
    for name, at in {
        "resnet50": ("layer2", "layer1"),  # 512 and 256 channels: width 64
        "resnext50_32x4d": ("layer2", "layer1"),  # the same
        "mobilenet_v2": ("features.7.conv.0",),  # 192: width 24
        "mobilenet_v2_035": ("features.7.conv.0", "features.4.conv.0"),  # 96 and 48: width 12
        "efficientnet_lite0": ("blocks.2.0.bn2",),  # 144: width 18
        "efficientnet_lite2": ("blocks.3.0.bn1", "blocks.2.0.bn1"),  # 288 and 144: width 36
    }.items()
}


class Prior:
    """A frozen network, asked for the features of single frames (chapter 12).

    One can be shared by many detectors. It is no nn.Module, so that nobody trains or saves it,
    and it follows the frames to their device.

    Args:
        network: takes (B, 3, H, W). A copy of it is frozen.
        at: paths of the layers whose features are wanted, the deepest first.
        normalise: whether to subtract the mean and divide by the standard deviation, as the
            network's training did. PKG-Net's released code does not.
        bgr: whether to give it blue, green, red, as PKG-Net's released code does.
        mean, std: of each colour in the network's training.
    """

    def __init__(
        self, network: nn.Module, at: Sequence[str], normalise: bool = True, bgr: bool = False,
        mean: Sequence[float] = MEAN, std: Sequence[float] = STD,
    ):  # fmt: skip
        self._teacher = Teacher(network.to(memory_format=torch.channels_last), list(at))
        self.at, self.normalise, self.bgr = list(at), normalise, bgr
        self.mean, self.std = mean, std

    @property
    def network(self) -> nn.Module:
        return self._teacher.network

    def features(self, frames: Tensor) -> list[Tensor]:
        """(B, 1 or 3, H, W) in [0, 1] to a list of (B, C, h, w), one for each layer in `at`."""
        frames = frames.expand(-1, 3, -1, -1)
        if self.bgr:
            frames = frames.flip(1)
        if self.normalise:
            frames = normalised(frames, self.mean, self.std)
        self._teacher.network.to(frames.device)
        kept = self._teacher.features((frames,), {})
        return [kept[path][0].float() for path in self.at]


@recorded(weights=None)
def imagenet(name: str = "resnet50", weights: Path | str | None = "", **options) -> Prior:
    """The network `name`, trained on ImageNet, as a prior (chapter 12).

    It is shown frames with the mean and standard deviation of its training, also where it has not
    been trained.

    Args:
        name: one of `PRIORS`. PKG-Net has resnet50, and resnext50_32x4d for ShanghaiTech.
        weights: a file or folder, as for `Backbone`; a file may end behind the layers that are
            asked. torchvision's are the newest. None: the network before its training, its first
            weights drawn from torch's global generator.
        options: of `Prior`.
    Raises:
        ValueError: for an unknown name, or a file that is damaged or does not fit.
        RuntimeError: when the weights cannot be had.
    """
    if name not in PRIORS:
        raise ValueError(f"The prior is {name!r}; choose one of {', '.join(PRIORS)}.")
    at, known = PRIORS[name][1], NETWORKS[name]
    if weights is None:
        network = known.build(weights=None)
    else:
        network = pretrained(name, weights, at=at)
    return Prior(network, at, **{"mean": known.mean, "std": known.std} | options)
