"""What mimicry costs: one training step of a network, plain and boosted, side by side."""

from collections.abc import Callable, Iterator

import torch
from rounds import Comparison
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.segmentation import fcn_resnet50

from fmabs_lite.attention import ChannelAttention, SpatialAttention, SpatioChannelAttention
from fmabs_lite.detector import Detector, Prepared
from fmabs_lite.mimicry import Boosted
from fmabs_lite.models import AutoEncoder, Reconstruction

YARDSTICK = "plain + teacher"


class Segmenter(Reconstruction):
    """Gives back the image through torchvision's FCN, whose output is a dictionary."""

    def loss(self, prepared: Prepared) -> Tensor:
        return F.mse_loss(self.network(prepared.input)["out"], prepared.target)


def auto_encoder() -> Detector:
    return Reconstruction(AutoEncoder(width=64, code=512))


def fcn() -> Detector:
    return Segmenter(fcn_resnet50(weights=None, weights_backbone=None, num_classes=3))


def front_of_auto_encoder(network: AutoEncoder) -> nn.Module:
    return nn.Sequential(network.encoder, network.bottleneck)


def front_of_fcn(network: nn.Module) -> nn.Module:
    return network.backbone


def step_of(system: Detector, batch: Tensor, before: Callable = lambda: None) -> Callable:
    """One step of Adam, after whatever else has to be computed `before`."""
    optimiser = torch.optim.Adam(system.train().parameters(), lr=1e-4)

    def step() -> None:
        before()
        optimiser.zero_grad()
        system.loss(system.prepare(batch)).backward()
        optimiser.step()

    return step


def runs_of(make: Callable, front: Callable, at: str, channels: int, batch: Tensor) -> dict:
    """What is measured: name → a function without arguments."""
    whole = make().network.eval().requires_grad_(False)
    part = front(whole)
    attentions = {
        "Boosted, none": lambda: None,
        "Boosted, CA": lambda: ChannelAttention(channels),
        "Boosted, SA": SpatialAttention,
        "Boosted, SCA": lambda: SpatioChannelAttention(channels),
    }
    runs = {
        "plain": step_of(make(), batch),
        YARDSTICK: step_of(make(), batch, lambda: part(batch)),
        f"{YARDSTICK}, again": step_of(make(), batch, lambda: part(batch)),
    }
    for name, attention in attentions.items():
        runs[name] = step_of(Boosted(make(), whole, at=at, attention=attention()), batch)
    runs["teacher, up to the tap"] = lambda: part(batch)
    runs["teacher, whole"] = lambda: whole(batch)
    return runs


def comparisons(tiny: bool) -> Iterator[Comparison]:
    """All of this file; with `tiny`, at sizes at which only that it runs can be seen."""
    batch = torch.rand(2, 3, 32, 32) if tiny else torch.rand(8, 3, 64, 64)
    kinds = [
        ("auto-encoder", "bottleneck", (auto_encoder, front_of_auto_encoder), 512, batch, 1.0),
        ("fcn_resnet50", "backbone.layer4", (fcn, front_of_fcn), 2048, batch[:2], 1 / 3),
    ]
    for title, at, made, channels, images, share in kinds[: 1 if tiny else 2]:
        many, side = len(images), images.shape[-1]
        yield Comparison(
            f"A boosted step of {title}",
            f"Loss, backward and Adam in fp32 on {many} images of {side}², tapped at `{at}` with "
            f"{channels} channels. Nothing can mimic at less than a plain step and the teacher's "
            "pass up to the tap.",
            "image", many, runs_of(*made, at, channels, images), against=YARDSTICK, share=share,
        )  # fmt: skip
