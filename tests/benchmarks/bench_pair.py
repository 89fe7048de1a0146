"""What a student beside its teacher costs here and in anomalib's STFPM: a step, and scoring."""

from collections.abc import Iterator

import torch
from bench_draem import GOALS, HALF, LAID, WHY, adam, one_step, scored
from rounds import AGAIN, OURS, THEIRS, Comparison
from torch import Tensor
from torchvision.models import resnet18

from fmabs_lite.models import AstMfr
from fmabs_lite.models.backbones import RESNET, normalised

try:
    from anomalib.models.components import TimmFeatureExtractor
    from anomalib.models.image.stfpm.loss import STFPMLoss
    from anomalib.models.image.stfpm.torch_model import STFPMModel
except ImportError:
    STFPMModel = None


def comparisons(tiny: bool) -> Iterator[Comparison]:
    """All of this file; with `tiny`, at sizes at which only that it runs can be seen."""
    size = 32 if tiny else 256
    yield step(torch.rand(2 if tiny else 4, 3, size, size))
    for many in (1, 2) if tiny else (1, 32):
        yield scoring(torch.rand(many, 3, size, size))


def pair() -> AstMfr:
    """AST-MFR without masks and blocks, both networks a ResNet18: what STFPM trains.

    Weights are drawn: it takes as long with ImageNet's.
    """
    return AstMfr("resnet18", "resnet18", regenerate=False, teacher_weights=None,
                  student_weights=None)  # fmt: skip


def stfpm() -> torch.nn.Module:
    """anomalib's; given a module it would take it for both sides, and train none."""
    model = STFPMModel(layers=RESNET, backbone=resnet18(weights=None))
    student = TimmFeatureExtractor(resnet18(weights=None), RESNET, requires_grad=True)
    model.student_model = student
    return model


def step(batch: Tensor) -> Comparison:
    ours, laid = pair(), pair().to(memory_format=torch.channels_last)
    first, second = adam(ours, fused=True), adam(laid, fused=True)
    runs = {
        OURS: one_step(first, lambda: ours.loss(ours.prepare(batch))),
        AGAIN: one_step(first, lambda: ours.loss(ours.prepare(batch))),
        LAID: one_step(second, lambda: laid.loss(laid.prepare(batch))),
        HALF: one_step(second, lambda: laid.loss(laid.prepare(batch)), torch.bfloat16),
    }
    if STFPMModel is not None:
        model, loss = stfpm(), STFPMLoss()
        runs[THEIRS] = one_step(adam(model, fused=True), lambda: loss(*model(normalised(batch))))
    return Comparison(
        "A training step of a student beside its teacher",
        "The teacher's pass, loss, backward and Adam, two ResNet18 up to their third stage, "
        f"{len(batch)} images of {batch.shape[-1]}², in fp32 but for the row that says otherwise. "
        "Ours is AST-MFR without masks and blocks, anomalib's STFPM, which trains with SGD but has "
        "the same Adam here. `fit` lays a network out as channels_last.",
        "image", len(batch), runs, goals=GOALS, share=1 / 2, why=WHY,
    )  # fmt: skip


def scoring(batch: Tensor) -> Comparison:
    many = len(batch)
    laid = pair().to(memory_format=torch.channels_last).eval()
    runs = {OURS: scored(pair().eval(), batch), LAID: scored(laid, batch)}
    if STFPMModel is not None:
        model = stfpm().eval()
        runs[THEIRS] = torch.no_grad()(lambda: model(normalised(batch)))
    return Comparison(
        f"Scoring by a student beside its teacher, {many} at a time",
        f"Map and score of images of {batch.shape[-1]}² by the same pair, in fp32. "
        "`collect` lays a network out as channels_last.",
        "image", many, runs, share=1 if many == 1 else 1 / 3,
    )  # fmt: skip
