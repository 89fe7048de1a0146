"""What this machine trains: samples a second of each system, at the sizes that a run would have.

Some steps on random images, plain and boosted by spatio-channel attention; a sweep's `--dry-run`
reckons with it. Reading data and scoring are not in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fmabs_lite.attention import SpatioChannelAttention
from fmabs_lite.detector import Detector
from fmabs_lite.mimicry import Boosted
from fmabs_lite.models import (
    AstMfr,
    AutoEncoder,
    Draem,
    FlowMemory,
    Hf2vad,
    Jigsaw,
    Mnad,
    PkgNet,
    Reconstruction,
)
from fmabs_lite.training import Descent, best_device, chosen_precision, laid_out, to_float

Values = Mapping[str, Any]


class System(NamedTuple):
    """How a chapter builds its untrained detector, the shape of a sample, and where it is boosted.

    `at` is FMABS' layer, of `channels`; "" where the system has no boost of that kind.
    """

    build: Callable[[Values], Detector]
    sample: Callable[[Values], tuple[int, ...]]
    at: str = ""
    channels: Callable[[Values], int] = lambda p: 8 * p["width"]


def image(p: Values) -> tuple[int, ...]:
    return 3, p["size"], p["size"]


def draem(p: Values) -> Draem:
    textures = torch.randint(0, 256, (8, *image(p)), dtype=torch.uint8)
    return Draem(p["width"], p["disc_width"], textures, p["window"])


def pair(p: Values) -> AstMfr:
    return AstMfr(p["teacher"], p["student"], teacher_weights=None, student_weights=None)


def predictor(p: Values) -> Hf2vad:
    """Stage two, with a memory of stage one; a sample's frames are grey, and two channels flow."""
    return Hf2vad(FlowMemory(p["memory_width"], p["cube"], p["slots"]), p["width"], p["cube"], 1)


CODE = 64  # channels of the auto-encoder's bottleneck where a chapter does not name them
AUTO_ENCODER = System(
    lambda p: Reconstruction(AutoEncoder(width=p["width"], code=p.get("code", CODE))),
    image, "bottleneck", lambda p: p.get("code", CODE),
)  # fmt: skip
SYSTEMS = {
    "03_reconstruction": AUTO_ENCODER,
    "04_feature_mimicking": AUTO_ENCODER,
    "05_channel_attention": AUTO_ENCODER,
    "06_spatial_attention": AUTO_ENCODER,
    "07_spatio_channel_attention": AUTO_ENCODER,
    "08_the_loss": AUTO_ENCODER,
    "10_draem": System(draem, image, "repairer.bottleneck"),
    "11_mnad": System(
        lambda p: Mnad("prediction", 1, p["frames"], p["width"], p["items"]),
        lambda p: (p["frames"] + 1, 1, *p["ped2_size"]), "bottleneck",
    ),
    "12_pkgnet": System(
        lambda p: PkgNet(width=p["width"], channels=1),
        lambda p: (5, 1, p["cube"], p["cube"]), "bottleneck",
    ),
    "13_jigsaw": System(
        lambda p: Jigsaw(p["frames"], p["width"], p["size"], channels=1),
        lambda p: (p["frames"], 1, p["size"], p["size"]), "trunk", lambda p: 2 * p["width"],
    ),
    "14_ast_mfr": System(pair, image),
    "15_hf2vad": System(
        predictor, lambda p: (5, 3, p["cube"], p["cube"]), "bottleneck", lambda p: 2 * p["width"],
    ),
}  # fmt: skip


class Rate(NamedTuple):
    """Samples a second: plain, and boosted (0 where there is no boost); the precision taken."""

    plain: float
    boosted: float
    precision: str


def rate_of(chapter: str, p: Values, seconds: float = 2.0) -> Rate:
    """Measure how fast this machine trains a chapter's system with the parameters `p`."""
    system, device = SYSTEMS[chapter], best_device()
    precision = chosen_precision(p["precision"], device)
    batch = torch.randint(0, 256, (p["batch_size"], *system.sample(p)), dtype=torch.uint8)
    plain = speed(system.build(p), batch, precision, seconds)
    if not system.at:
        return Rate(plain, 0.0, precision)
    attention = SpatioChannelAttention(system.channels(p))
    boosted = Boosted(system.build(p), system.build(p).network, system.at, attention)
    return Rate(plain, speed(boosted, batch, precision, seconds), precision)


def measure_all(repo: Path, profile: str, seconds: float) -> list[list[str]]:
    """A line of texts for each chapter: sample, batch, precision, samples/s, time of a network."""
    from fmabs_lite.press.plan import Settings, plan

    lines = []
    for chapter in plan(repo, list(SYSTEMS), Settings(profile)):
        p = chapter.provenance["parameters"]
        torch.set_num_threads(chapter.threads)
        rate = rate_of(chapter.name, p, seconds)
        sample = "×".join(map(str, SYSTEMS[chapter.name].sample(p)))
        took = p["steps"] * p["batch_size"] / (rate.boosted or rate.plain)
        boosted = f"{rate.boosted:.1f}" if rate.boosted else "–"
        lines.append([chapter.name, sample, str(p["batch_size"]), rate.precision,
                      f"{rate.plain:.1f}", boosted, f"{took / 60:.1f} min"])  # fmt: skip
    return lines


def speed(detector: Detector, batch: Tensor, precision: str, seconds: float) -> float:
    """Samples a second in training steps on the same batch, after two steps to warm up."""
    device = best_device()
    laid_out(detector, device).train()
    descent = Descent(detector, 1000, 1e-5, (), precision)
    count, start = -2, 0.0
    while count < 1 or time.perf_counter() - start < seconds:
        if count == 0:
            start = time.perf_counter()
        descent(to_float(batch, device)).item()  # to read the loss is to wait for the device
        count += 1
    return count * len(batch) / (time.perf_counter() - start)
