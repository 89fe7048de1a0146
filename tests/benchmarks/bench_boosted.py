"""What mimicry costs: one training step of a network, plain and boosted, side by side.

    python tests/benchmarks/bench_boosted.py [rounds]

The yardstick is a plain step and the teacher's pass up to the tapped layer, for nothing cheaper
can mimic. It is measured twice: how far its second row is from 1 is the noise of this run. All
steps take turns in every round; the ratio is the median of the rounds' ratios, the spread that
of their quartiles. Times are those of one thread on the processor, without its waiting for others.
Nothing here is a pass mark.
"""

import sys
from collections.abc import Callable
from statistics import median

import torch
from rounds import compare
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


def bench(title: str, runs: dict[str, Callable], rounds: int, images: int) -> None:
    took = compare(title, runs, YARDSTICK, rounds, images)
    saved = median(row["teacher, whole"] - row["teacher, up to the tap"] for row in took)
    step = median(row[YARDSTICK] for row in took)
    print(f"stopping early saves {1000 * saved:.1f} ms, {saved / (step + saved):.0%} of a step "
          "with the whole teacher")  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    batch = torch.rand(8, 3, 64, 64)
    runs = runs_of(auto_encoder, front_of_auto_encoder, "bottleneck", 512, batch)
    bench("auto-encoder, bottleneck of 512 × 8 × 8, 8 images of 64²", runs, rounds, 8)
    runs = runs_of(fcn, front_of_fcn, "backbone.layer4", 2048, batch[:2])
    few = max(5, rounds // 4)
    bench("fcn_resnet50, layer4 of 2048 × 8 × 8, 2 images of 64²", runs, few, 2)


if __name__ == "__main__":
    main()
