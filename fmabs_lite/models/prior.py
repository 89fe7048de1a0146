"""What a network learnt from other pictures: the features that PKG-Net imitates (chapter 12)."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from fmabs_lite.data.folder import listing
from fmabs_lite.models.blocks import double
from fmabs_lite.taps import Teacher

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pictures

# How torchvision builds it, and the layers that halve a picture three times and twice. A PKG-Net
# fits whose width is an eighth of the first layer's channels.
PRIORS = {
    "resnet50": (models.resnet50, ("layer2", "layer1")),  # 512 and 256 channels: width 64
    "resnext50_32x4d": (models.resnext50_32x4d, ("layer2", "layer1")),  # the same
    "mobilenet_v2": (models.mobilenet_v2, ("features.7.conv.0",)),  # 192: width 24
    "mobilenet_v2_035": (  # 96 and 48: width 12
        partial(models.mobilenet_v2, width_mult=0.35),
        ("features.7.conv.0", "features.4.conv.0"),
    ),
}


class Prior:
    """A frozen network, asked for the features of single frames (chapter 12).

    One can be shared by many detectors. It is no nn.Module, so that nobody trains or saves it,
    and it follows the frames to their device.

    Args:
        network: takes (B, 3, H, W). A copy of it is frozen.
        at: paths of the layers whose features are wanted, the deepest first.
        normalise: whether to subtract ImageNet's mean and divide by its deviation, as the
            network's training did. PKG-Net's released code does not.
        bgr: whether to give it blue, green, red, as PKG-Net's released code does.
    """

    def __init__(
        self, network: nn.Module, at: Sequence[str], normalise: bool = True, bgr: bool = False
    ):
        self._teacher = Teacher(network.to(memory_format=torch.channels_last), list(at))
        self.at, self.normalise, self.bgr = list(at), normalise, bgr

    def features(self, frames: Tensor) -> list[Tensor]:
        """(B, 1 or 3, H, W) in [0, 1] to a list of (B, C, h, w), one for each layer in `at`."""
        frames = frames.expand(-1, 3, -1, -1)
        if self.bgr:
            frames = frames.flip(1)
        if self.normalise:
            frames = normalised(frames)
        self._teacher.network.to(frames.device)
        kept = self._teacher.features((frames,), {})
        return [kept[path][0].float() for path in self.at]


def imagenet(name: str = "resnet50", weights: Path | str = "", **options) -> Prior:
    """torchvision's network `name`, trained on ImageNet, as a prior (chapter 12).

    Args:
        name: one of `PRIORS`. PKG-Net has resnet50, and resnext50_32x4d for ShanghaiTech.
        weights: a file with the state_dict of that network, or of its layers up to the ones
            that are asked: .safetensors, or what torch.save wrote. Empty: torchvision downloads.
        options: of `Prior`.
    Raises:
        ValueError: for an unknown name, or a file whose weights do not fit.
        RuntimeError: when the weights cannot be downloaded, or torchvision has none.
    """
    if name not in PRIORS:
        raise ValueError(f"The prior is {name!r}; choose one of {', '.join(PRIORS)}.")
    build, at = PRIORS[name]
    return Prior(pretrained(name, build, at, weights), at, **options)


def normalised(images: Tensor) -> Tensor:
    """Colour images (B, 3, H, W) in [0, 1] as ImageNet's networks were shown them (chapter 12)."""
    mean, std = (images.new_tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    return (images - mean) / std


def pretrained(
    name: str, build: Callable[..., nn.Module], at: Sequence[str],
    weights: Path | str = "", edition: str = "DEFAULT",
) -> nn.Module:  # fmt: skip
    """The network `build(weights=…)` with weights from a file, or else with torchvision's.

    Args:
        name: for messages. at: layers up to which a file must reach, see `fill`.
        weights: see `imagenet`.
        edition: which of torchvision's weights, where it has several: the newest, or
            "IMAGENET1K_V1".
    Raises:
        ValueError, RuntimeError: as `imagenet`.
    """
    if weights:
        network = build(weights=None)
        fill(network, read_weights(weights), at, weights)
        return network
    if isinstance(build, partial):
        raise RuntimeError(
            f"torchvision offers no weights for {name}. Give a file with them as `weights`, or "
            "choose mobilenet_v2."
        )
    try:
        return build(weights=edition)
    except OSError as error:  # no connection: URLError is one
        raise RuntimeError(
            f"The ImageNet weights of {name} cannot be downloaded ({error}). Give a file with them "
            "as `weights`, or train a stand-in on textures (`TextureNet`)."
        ) from error


def find_weights(name: str, root: Path | str) -> Path | None:
    """The file of the prior `name` in the folder `weights` that is in `root` or beside it, if any.

    It is named <name>.safetensors, <name>_features.pth, or as torchvision does, <name>-….pth.
    """
    for folder in (Path(root) / "weights", Path(root).parent / "weights"):
        for path in listing(folder) if folder.is_dir() else []:
            stem = path.stem.split("-")[0].removesuffix("_features")
            if stem == name and path.suffix in (".safetensors", ".pth", ".pt"):
                return path
    return None


def fill(network: nn.Module, state: dict, at: Sequence[str], path: Path | str) -> None:
    """Load a state_dict that may end behind the layers `at`; a ValueError if it ends before."""
    try:
        found = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{path} belongs to another network: {error}") from error
    names = [name for name, _ in network.named_parameters()]
    deepest = max(k for k, name in enumerate(names) if name.startswith(tuple(f"{a}." for a in at)))
    lacking = [name for name in names[: deepest + 1] if name in found.missing_keys]
    if lacking or found.unexpected_keys:
        odd = lacking[0] if lacking else found.unexpected_keys[0]
        raise ValueError(
            f"{path} does not fit {type(network).__name__}: {odd} is "
            f"{'missing' if lacking else 'not one of its weights'}. Give the file of this very "
            "network, with torchvision's names."
        )


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """A state_dict from a .safetensors file, or from one that torch.save wrote.

    Raises:
        ValueError: when the file breaks off or is of another kind.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # both raise many kinds for a damaged file
        raise ValueError(
            f"{path} cannot be read as weights ({type(error).__name__}): it breaks off or is of "
            "another kind. Get it again."
        ) from error


class TextureNet(nn.Module):
    """A small classifier of textures: what to imitate where no ImageNet weights are (chapter 12).

    (B, 3, H, W) to logits (B, classes). `middle` gives (B, 4 · width, H/4, W/4), `deep`
    (B, 8 · width, H/8, W/8): the sizes that a PKG-Net of that width wants.
    """

    def __init__(self, width: int, classes: int):
        super().__init__()
        pool = nn.MaxPool2d(2)
        self.middle = nn.Sequential(
            double(3, width), pool, double(width, 2 * width), pool, double(2 * width, 4 * width)
        )
        self.deep = nn.Sequential(pool, double(4 * width, 8 * width))
        self.head = nn.Linear(8 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.deep(self.middle(x)).mean(dim=(2, 3)))

    def prior(self, **options) -> Prior:
        """Its features, as a prior."""
        return Prior(self, ("deep", "middle"), **options)


def learn_textures(
    network: TextureNet, images: Tensor, labels: Tensor, steps: int, batch_size: int = 32,
    side: int = 32, lr: float = 3e-3, seed: int = 0,
) -> list[float]:  # fmt: skip
    """Train in place on random crops; return the loss of each step (chapter 12).

    Args:
        images: uint8 (N, 3, H, W), H and W at least `side`.
        labels: int (N,), the class of each.
    """
    draws = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(network.train().parameters(), lr=lr)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    losses = []
    for _ in range(steps):
        chosen = torch.randint(len(images), (batch_size,), generator=draws)
        top, left = (
            int(torch.randint(n - side + 1, (), generator=draws)) for n in images.shape[2:]
        )
        crops = images[chosen, :, top : top + side, left : left + side] / 255
        loss = F.cross_entropy(network((crops - mean) / std), labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    network.eval()
    return losses
