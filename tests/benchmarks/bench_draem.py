"""What DRAEM costs here and in anomalib: inventing anomalies, a training step, scoring."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from rounds import AGAIN, OURS, THEIRS, Comparison, sets
from torch import Tensor
from torchvision.io import write_png

from fmabs_lite.data import DTD
from fmabs_lite.data.synthesis import Corrupted, corrupt
from fmabs_lite.models import Draem

try:
    from anomalib.data.utils.generators.perlin import PerlinAnomalyGenerator
    from anomalib.models.image.draem.loss import DraemLoss
    from anomalib.models.image.draem.torch_model import DraemModel
except ImportError:
    DraemModel = None

LAID, HALF = "ours, channels_last", "ours, channels_last, bf16"
WHY = (
    "Both sides spend most of the time in the same convolutions of the same library, which no code "
    "around them makes faster. A processor without matrix units for bf16 loses by it, and "
    "`precision='auto'` stays with fp32 there."
)
GOALS = {LAID: 1.3, HALF: 2}


def comparisons(tiny: bool) -> Iterator[Comparison]:
    """All of this file; with `tiny`, at sizes at which only that it runs can be seen."""
    yield synthesis(32 if tiny else 256, 2 if tiny else 8)
    side, widths = (32, {"width": 4, "disc_width": 4}) if tiny else (64, {})
    yield step(side, widths)
    for many in (1, 2) if tiny else (1, 32):
        yield scoring(side, many, widths)


def synthesis(size: int, many: int) -> Comparison:
    found = sets()
    textures, images = DTD(found.dtd, size).images, torch.rand(many, 3, size, size)
    runs = {
        OURS: lambda: corrupt(images, textures, share=1, turned=0),
        AGAIN: lambda: corrupt(images, textures, share=1, turned=0),
        "ours, 3 in 10 turned": lambda: corrupt(images, textures, share=1),
    }
    if DraemModel is not None:
        theirs = PerlinAnomalyGenerator(found.dtd, probability=1.0, blend_factor=(0.1, 1.0))
        runs[THEIRS] = lambda: theirs(images)
        ready = ready_made(textures)
        runs["anomalib, textures as PNG of this size"] = lambda: ready(images)
    return Comparison(
        "DRAEM's anomalies",
        f"Batches of {many} images of {size}², each of which gets an anomaly. Our textures lie in "
        "memory, where they were read once; anomalib reads one of "
        f"{'the synthetic set' if found.drawn else 'DTD'} for each anomaly, as in a training.",
        "image", many, runs, goals={OURS: 4},
        why="Half of the time goes into the three distortions, which are the same passes over the "
        "picture on both sides; what is left is the noise, which is computed for each pixel of a "
        "turned picture, where anomalib computes it upright and turns the picture.",
    )  # fmt: skip


def ready_made(textures: Tensor) -> "PerlinAnomalyGenerator":
    """anomalib's generator on textures that need no resizing, in a folder of this process."""
    folder = tempfile.mkdtemp(prefix="fmabs-textures-")
    for number, texture in enumerate(textures[:16]):
        write_png(texture, str(Path(folder, f"{number}.png")))
    return PerlinAnomalyGenerator(folder, probability=1.0, blend_factor=(0.1, 1.0))


def adam(network: torch.nn.Module, fused: bool | None = None) -> torch.optim.Optimizer:
    """As `fit` has it, in one pass, if fused; else torch's default, which is anomalib's too."""
    return torch.optim.Adam(network.train().parameters(), lr=1e-4, fused=fused)


def one_step(optimiser: torch.optim.Optimizer, loss: Callable[[], Tensor], precision=None):
    """Loss, backward and a step, as a function without arguments."""

    def step() -> None:
        with torch.autocast("cpu", precision, enabled=precision is not None):
            value = loss()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()

    return step


def step(side: int, widths: dict) -> Comparison:
    """Each network has 97 million parameters at the published widths."""
    textures = torch.randint(0, 256, (4, 3, side, side)).byte()
    prepared = corrupt(torch.rand(4, 3, side, side), textures, share=1)
    plain, laid = Draem(**widths), Draem(**widths).to(memory_format=torch.channels_last)
    first, second = adam(plain, fused=True), adam(laid, fused=True)
    runs = {
        OURS: one_step(first, lambda: plain.loss(prepared)),
        AGAIN: one_step(first, lambda: plain.loss(prepared)),
        LAID: one_step(second, lambda: laid.loss(prepared)),
        HALF: one_step(second, lambda: laid.loss(prepared), torch.bfloat16),
    }
    if DraemModel is not None:
        model, loss = their_loss(prepared)
        runs[THEIRS] = one_step(adam(model), loss)
    return Comparison(
        "A training step of DRAEM",
        f"Loss, backward and Adam at {'tiny' if widths else 'the published'} widths, on 4 images "
        f"of {side}² that were corrupted before, in fp32 but for the row that says otherwise. "
        "`fit` lays a network out as channels_last, and has an Adam of one pass; anomalib has "
        "torch's default.",
        "image", 4, runs, goals=GOALS, share=1 / 3, why=WHY,
    )  # fmt: skip


def their_loss(prepared: Corrupted) -> tuple:
    model, loss = DraemModel(), DraemLoss()

    def theirs() -> Tensor:
        repair, logits = model(prepared.input)
        return loss(prepared.target, repair, prepared.mask.float(), logits)

    return model, theirs


def scoring(side: int, many: int, widths: dict) -> Comparison:
    batch = torch.rand(many, 3, side, side)
    ours = Draem(**widths).eval()
    runs = {OURS: scored(ours, batch), AGAIN: scored(ours, batch)}
    if DraemModel is not None:
        model = DraemModel().eval()
        runs[THEIRS] = torch.no_grad()(lambda: model(batch))
    return Comparison(
        f"Scoring by DRAEM, {many} at a time",
        f"Map and score of images of {side}², at {'tiny' if widths else 'the published'} widths, "
        "in fp32.", "image", many, runs, share=1 / 5,
    )  # fmt: skip


def scored(detector: torch.nn.Module, batch: Tensor) -> Callable:
    return torch.no_grad()(lambda: detector.score(detector.prepare(batch)))
