"""The networks that engine.js runs: taken out of a detector, answered for by torch, packed.

Every normalisation is folded into the convolution before it. The weights of each output channel are
stored in eight bits with a scale, a fourth of their size, so that they fit on a page. What torch
works out with these weights here is what the page works out there.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil, exp
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmabs_lite.detector import Detector
from fmabs_lite.mimicry import Boosted, inconsistency, refined
from fmabs_lite.scoring import enlarge, smooth

STEPS = 127  # of a weight to either side
SMALLEST = 1e-7  # scale of a channel without weights, in half precision still above 0
Networks = dict[str, list["Layer"]]


@dataclass
class Layer:
    """One convolution of an engine's network, with what stands behind it folded in."""

    c_in: int
    c_out: int
    k: int
    stride: int
    pad: int
    transposed: bool
    after: str = "none"
    weight: Tensor = field(default=None, repr=False)
    bias: Tensor = field(default=None, repr=False)
    scale: Tensor = field(default=None, repr=False)

    def __call__(self, x: Tensor) -> Tensor:
        convolve = F.conv_transpose2d if self.transposed else F.conv2d
        out = convolve(x, self.weight, self.bias, self.stride, self.pad)
        return {"none": out, "relu": out.relu(), "sigmoid": out.sigmoid()}[self.after]

    def told(self) -> dict[str, Any]:
        """What the engine needs to know beside the weights."""
        numbers = ("weight", "bias", "scale")
        return {key: value for key, value in vars(self).items() if key not in numbers}

    def rounded(self) -> Layer:
        """The same with weights of 255 steps for each output channel, as the page has them."""
        largest = self.weight.transpose(0, 1 if self.transposed else 0).flatten(1).abs().amax(dim=1)
        self.scale = (largest / STEPS).clamp(min=SMALLEST).half().float()
        self.weight = self.steps().float() * self.along(self.scale)
        self.bias = self.bias.half().float()
        return self

    def steps(self) -> Tensor:
        """The weights as whole numbers from -127 to 127, multiples of their channel's scale."""
        whole = (self.weight / self.along(self.scale)).round().clamp(-STEPS, STEPS)
        return whole.to(torch.int8)

    def along(self, values: Tensor) -> Tensor:
        """A number for each output channel, as it multiplies the weights."""
        return values.view((1, -1, 1, 1) if self.transposed else (-1, 1, 1, 1))


def networks_of(detector: Detector) -> Networks:
    """The engine's networks, by their place in the system: encoder, decoder, teacher, attention."""
    boosted = isinstance(detector, Boosted)
    network = detector.network
    if not all(hasattr(network, part) for part in ("encoder", "bottleneck", "decoder")):
        raise TypeError(
            "paint: the engine runs networks of an encoder, a bottleneck and a decoder, as "
            f"AutoEncoder; this is a {type(network).__name__}"
        )
    found = {"encoder": to_bottleneck(network), "decoder": folded(network.decoder)}
    if boosted:
        if detector.at != ["bottleneck"] or detector.refine != "product":
            raise TypeError("paint: tap a Boosted at its bottleneck alone, and refine by a product")
        found["teacher"] = to_bottleneck(detector.teacher)
        if detector.attention is not None:
            found["attention"] = attended(detector.attention[0])
    return found


def to_bottleneck(network: nn.Module) -> list[Layer]:
    return [*folded(network.encoder), *folded(network.bottleneck)]


def attended(attention: nn.Module) -> list[Layer]:
    """M = σ(D(ReLU(E(Fea_I)))) as two layers."""
    if not (hasattr(attention, "encode") and hasattr(attention, "decode")):
        raise TypeError(
            "paint: the engine runs attention of an encode and a decode, as "
            f"SpatioChannelAttention; this is a {type(attention).__name__}"
        )
    (encode,), (decode,) = folded(attention.encode), folded(attention.decode)
    encode.after, decode.after = "relu", "sigmoid"
    return [encode, decode]


def folded(module: nn.Module) -> list[Layer]:
    """A chain of convolutions in eight bits, each with its normalisation and ReLU folded in."""
    layers: list[Layer] = []
    for part in leaves(module):
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)):
            layers.append(layer_of(part))
        elif isinstance(part, nn.BatchNorm2d):
            normalised(layers[-1], part)
        elif isinstance(part, nn.ReLU):
            layers[-1].after = "relu"
        else:
            raise TypeError(f"paint: the engine knows no {type(part).__name__}")
    return [layer.rounded() for layer in layers]


def leaves(module: nn.Module) -> Iterator[nn.Module]:
    children = list(module.children())
    if not children:
        yield module
    for child in children:
        yield from leaves(child)


def layer_of(part: nn.Conv2d | nn.ConvTranspose2d) -> Layer:
    weight = part.weight.detach().cpu().float()
    bias = torch.zeros(part.out_channels) if part.bias is None else part.bias.detach().cpu().float()
    return Layer(
        part.in_channels, part.out_channels, part.kernel_size[0], part.stride[0], part.padding[0],
        isinstance(part, nn.ConvTranspose2d), weight=weight, bias=bias,
    )  # fmt: skip


def normalised(layer: Layer, norm: nn.BatchNorm2d) -> None:
    """Fold a normalisation, with the statistics it has learnt, into the layer before it."""
    with torch.no_grad():
        scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).cpu()
        layer.weight = layer.weight * layer.along(scale)
        layer.bias = (layer.bias - norm.running_mean.cpu()) * scale + norm.bias.cpu()


def answers(networks: Networks, images: Tensor) -> dict[str, Tensor]:
    """What engine.js works out, by torch: uint8 (B, 3, S, S) to features, mask, reconstruction."""
    x = images.float() / 255
    fea_s = chained(networks["encoder"], x)
    found, fea_r = {}, fea_s
    if "teacher" in networks:
        found["fea_i"] = inconsistency(chained(networks["teacher"], x), fea_s)
        if "attention" in networks:
            found["mask"] = chained(networks["attention"], found["fea_i"])
            fea_r = refined(fea_s, found["mask"])
    found["reconstruction"] = chained(networks["decoder"], fea_r)
    return found | {"map_o": ((found["reconstruction"] - x) ** 2).mean(dim=1)}


def chained(layers: list[Layer], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def maps_of(networks: Networks, images: Tensor, sigma: float) -> dict[str, np.ndarray]:
    """What the figure shows of parts (B, 3, S, S): pictures and maps, as arrays (B, …)."""
    found = answers(networks, images)
    maps = {"error": smooth(found["map_o"].numpy(), sigma)}
    if "fea_i" in found:
        coarse = found["fea_i"].square().mean(dim=1).numpy()
        maps["inconsistency"] = smooth(enlarge(coarse, images.shape[-2:]), sigma)
    rest = {key: found[key].numpy() for key in ("reconstruction", "mask") if key in found}
    return rest | maps


def gaussian(sigma: float) -> list[float]:
    """The weights of `smooth` along one axis: four standard deviations to either side."""
    if sigma == 0:
        return [1.0]
    half = ceil(4 * sigma)
    weights = [exp(-0.5 * (place / sigma) ** 2) for place in range(-half, half + 1)]
    return [weight / sum(weights) for weight in weights]


def sent(layers: list[Layer]) -> dict[str, Any]:
    """A network as the page takes it."""
    steps = torch.cat([layer.steps().flatten() for layer in layers])
    halves = torch.cat([block for layer in layers for block in (layer.scale, layer.bias)])
    return {"layers": [layer.told() for layer in layers], "steps": coded(steps.numpy()),
            "halves": coded(halves.half().numpy().astype("<f2"))}  # fmt: skip


def coded(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()
