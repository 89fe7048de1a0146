"""A training never waits for a GPU: no step reads from it, and what goes there is sent.

Trainings run here on PyTorch's device "meta", whose tensors have shapes and no content: whatever
asks one for a value, or for a shape that depends on values, raises. What goes from the CPU to a GPU
and waits until it is there, a second mode finds.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fmabs_lite import training
from fmabs_lite.attention import SpatioChannelAttention
from fmabs_lite.data.synthesis import sent
from fmabs_lite.detector import Detector
from fmabs_lite.mimicry import Boosted
from fmabs_lite.models import (
    AstMfr,
    Draem,
    FlowMemory,
    Hf2vad,
    Jigsaw,
    Mnad,
    PkgNet,
    WithSSPCAB,
)
from fmabs_lite.models.sspcab import SSPCAB

META = torch.device("meta")
IMAGE = (3, 32, 32)
TEXTURES = torch.empty(8, *IMAGE, dtype=torch.uint8, device=META)


class Waits(AssertionError):
    """The CPU would wait for the GPU here."""


class Sending(TorchDispatchMode):
    """Raises Waits at a copy to the GPU that waits, and at an index that has yet to be copied."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        found = [x for x in torch.utils._pytree.tree_leaves((args, kwargs)) if type(x) is Tensor]
        places = {x.device.type for x in found if x.dim()}
        if name == "_to_copy":
            leaves = "cpu" in places and str(kwargs.get("device")) == "meta"
            if leaves and not kwargs.get("non_blocking"):
                raise Waits("a tensor is moved without non_blocking=True")
        elif name.startswith("index") and places == {"cpu", "meta"}:
            raise Waits("a tensor on the GPU is indexed by one on the CPU")
        return func(*args, **kwargs)


def draem() -> Draem:
    return Draem(4, 4, TEXTURES, window=3)


def boosted() -> Boosted:
    return Boosted(draem(), draem().network, "repairer.bottleneck", SpatioChannelAttention(32))


def with_blocks() -> WithSSPCAB:
    return WithSSPCAB(draem(), ["repairer.bottleneck", "judge.encoder.4"], [SSPCAB(32), SSPCAB(32)])


def pair() -> AstMfr:
    names = "mobilenet_v2_035", "squeezenet1_1"
    return AstMfr(*names, teacher_weights=None, student_weights=None)


SYSTEMS = {
    "DRAEM": (draem, IMAGE),
    "DRAEM + SSPCAB": (with_blocks, IMAGE),
    "DRAEM + SCA": (boosted, IMAGE),
    "MNAD": (lambda: Mnad("prediction", 1, 4, 4, 3), (5, 1, 16, 16)),
    "PKG-Net": (lambda: PkgNet(width=4, channels=1), (5, 1, 16, 16)),
    "Jigsaw": (lambda: Jigsaw(4, 4, 16, channels=1), (4, 1, 16, 16)),
    "HF2-VAD's memory": (lambda: FlowMemory(4, 16, 9), (5, 3, 16, 16)),
    "HF2-VAD": (lambda: Hf2vad(FlowMemory(4, 16, 9), 8, 16, 1), (5, 3, 16, 16)),
    "AST-MFR": (pair, (3, 64, 64)),
}


@pytest.fixture
def on_meta(monkeypatch) -> None:
    monkeypatch.setattr(training, "best_device", lambda: META)
    monkeypatch.setattr(training.Losses, "read", lambda self: self.waiting)  # it may wait
    monkeypatch.setattr(training, "refuse_lost", lambda *_: None)  # and so may this, at the end
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # not of meta


def train(make: Callable[[], Detector], sample: tuple[int, ...], steps: int = 3) -> list:
    """Train on a batch of four; each step finds its own damage, shuffles and masks."""
    torch.manual_seed(0)
    data = torch.zeros(6, *sample, dtype=torch.uint8, device=META)
    detector = make().to(META)
    with Sending():
        return training.fit(detector, data, steps=steps, batch_size=4)


@pytest.mark.parametrize("name", SYSTEMS)
def test_no_step_waits_for_the_device(name, on_meta):
    try:
        losses = train(*SYSTEMS[name])
    except NotImplementedError as error:  # PyTorch 2.7, HF2-VAD
        if "weight_norm" not in str(error):
            raise
        pytest.skip("this PyTorch has no weight norm on the meta device")
    assert len(losses) == 3 and all(loss.device == META for loss in losses)


def test_the_losses_are_read_once_in_a_while(on_meta, monkeypatch):
    reads = []

    def read(self) -> None:
        reads.append(len(self.waiting))
        self.known += [0.0] * len(self.waiting)
        self.waiting = []

    monkeypatch.setattr(training.Losses, "read", read)
    monkeypatch.setattr(training.Losses, "EVERY", 5)
    train(*SYSTEMS["PKG-Net"], steps=8)
    assert reads == [5, 3]


class Waiting(PkgNet):
    """Does in each step what a detector should not."""

    def __init__(self, how: Callable[[Tensor], object]):
        super().__init__(width=4, channels=1)
        self.how = how

    def prepare(self, batch: Tensor):
        self.how(batch)
        return super().prepare(batch)


@pytest.mark.parametrize(
    ("how", "error"),
    [
        (lambda x: x.mean().item(), RuntimeError),
        (lambda x: x.cpu(), NotImplementedError),
        (lambda x: x[x > 0.5], RuntimeError),
        (lambda x: (x > 0.5).nonzero(), RuntimeError),
        (lambda x: torch.rand(2).to(x.device), Waits),
        (lambda x: x[torch.tensor([0, 1])], Waits),
    ],
    ids=["item", "cpu", "mask", "nonzero", "to", "index"],
)
def test_a_detector_that_waits_is_found(how, error, on_meta):
    with pytest.raises(error):
        train(lambda: Waiting(how), (5, 1, 16, 16))


class Asked:
    """A tensor on some device that notes how it is moved."""

    def __init__(self, device: str):
        self.device = torch.device(device)

    def to(self, device, non_blocking: bool = False) -> Tensor:
        self.non_blocking = non_blocking
        return torch.zeros(1, dtype=torch.uint8)


@pytest.mark.parametrize(("device", "without_waiting"), [("cpu", True), ("cuda", False)])
def test_what_comes_from_the_gpu_is_waited_for(device, without_waiting):
    """Else the CPU would read what has not arrived."""
    moved = Asked(device)
    sent(moved, torch.zeros(1))
    assert moved.non_blocking == without_waiting
    batch = Asked(device)
    batch.dtype = torch.uint8
    training.to_float(batch, torch.device("cpu"))
    assert batch.non_blocking == without_waiting
