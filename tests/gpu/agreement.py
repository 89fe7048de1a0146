"""Does a GPU compute what the CPU computes? Every system, in each precision, side by side.

    python tests/gpu/agreement.py [--to FILE.json] [--device cpu]

A system is built and shown a batch on the CPU. The GPU gets the same weights and the same batch:
its damage, loss, gradient, scores and attention masks are put beside the CPU's in fp32. How far
they may be off is measured, too: some times as far as the CPU itself is off, in fp32 when all
numbers move by 1e-6, in bf16 and fp16 when it computes in these. What the CPU does not know itself,
such as the gradient of an untrained DRAEM in bf16, is left out. Then some steps are trained in each
precision, and a training that the GPU began is finished by a process that sees no GPU.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from fmabs_lite import training
from fmabs_lite.attention import ChannelAttention, SpatialAttention, SpatioChannelAttention
from fmabs_lite.detector import Detector
from fmabs_lite.mimicry import Boosted
from fmabs_lite.models import SSPCAB, WithSSPCAB
from fmabs_lite.press.bench import SYSTEMS
from fmabs_lite.training import Descent, OutOfTime, autocast, fit

CPU = torch.device("cpu")
PRECISIONS = ("fp32", "bf16", "fp16")
# May be off: so many times what the CPU is off, and a floor; what may be off by more says nothing.
TIMES, FLOOR, MOST = 4.0, {"fp32": 1e-5, "bf16": 1e-3, "fp16": 1e-4}, 0.7
SCALE = 1024  # of the loss, before its gradient is taken
FLIPPED = 1e-3  # share of what is prepared that may differ: a value beside a threshold falls over
STEPS, HALF, DRIFT = 10, 5, 0.01  # of the training that moves; how far its losses may be off

DRAEM, JIGSAW = "10_draem", "13_jigsaw"
VALUES = {
    "03_reconstruction": dict(size=32, width=8, code=16),
    DRAEM: dict(size=64, width=4, disc_width=4, window=5),  # at 32 fp16 overflows on the CPU too
    "11_mnad": dict(ped2_size=[16, 24], width=8, items=5, frames=4),
    "12_pkgnet": dict(cube=16, width=8),
    JIGSAW: dict(size=16, width=8, frames=4),
    "15_hf2vad": dict(cube=16, memory_width=8, slots=20, width=8),
    "14_ast_mfr": dict(size=64, teacher="mobilenet_v2_035", student="squeezenet1_1"),
}


class Finding(NamedTuple):
    """One line of the report: `off` is relative, and fits where it is at most `allowed`."""

    system: str
    what: str
    precision: str
    off: float
    allowed: float

    @property
    def fits(self) -> bool:
        return self.off <= self.allowed  # not where `off` is NaN


def plain(chapter: str) -> Detector:
    return SYSTEMS[chapter].build(VALUES[chapter])


def boosted(chapter: str, attention: Callable = SpatioChannelAttention) -> Detector:
    system, gate = SYSTEMS[chapter], attention(SYSTEMS[chapter].channels(VALUES[chapter]))
    return Boosted(plain(chapter), plain(chapter).network, system.at, gate)


def with_blocks(chapter: str) -> Detector:
    blocks = [SSPCAB(32), SSPCAB(32)]
    return WithSSPCAB(plain(chapter), ["repairer.bottleneck", "judge.encoder.4"], blocks)


def cases() -> dict[str, tuple[str, Callable[[], Detector]]]:
    """Name → (chapter, how to build the system): all of them plain and boosted."""
    found = {name: (name, lambda name=name: plain(name)) for name in VALUES}
    found |= {f"{name} + SCA": (name, lambda name=name: boosted(name))
              for name in VALUES if SYSTEMS[name].at}  # fmt: skip
    return found | {
        "10_draem + CA": (DRAEM, lambda: boosted(DRAEM, ChannelAttention)),
        "10_draem + SA": (DRAEM, lambda: boosted(DRAEM, lambda channels: SpatialAttention())),
        "10_draem + SSPCAB": (DRAEM, lambda: with_blocks(DRAEM)),
    }


def compare(name: str, device: torch.device, precisions=PRECISIONS) -> Iterator[Finding]:
    """Put the CPU and a device side by side on one system of `cases`."""
    chapter, build = cases()[name]
    torch.manual_seed(0)
    detector = build().train()
    shape = SYSTEMS[chapter].sample(VALUES[chapter])
    batch = torch.randint(0, 256, (4, *shape), dtype=torch.uint8)
    prepared = prepared_on(CPU, detector, batch)
    pairs = zip(*map(tree_leaves, (prepared_on(device, detector, batch), prepared)), strict=True)
    differ = [(a.cpu().float() - b.float()).abs() > 1e-3 * b.float().abs().clamp(min=1)
              for a, b in pairs if b is not None]  # fmt: skip
    share = torch.cat([one.flatten() for one in differ]).float().mean().item()
    yield Finding(name, "prepared", "fp32", share, FLIPPED)
    truth = answers(CPU, detector, prepared, "fp32")
    for precision in precisions:
        moved = shaken(detector, prepared) if precision == "fp32" else (detector, prepared)
        own = off(answers(CPU, *moved, precision), truth)
        there = off(answers(device, detector, prepared, precision), truth)
        for what in there:
            allowed = TIMES * own[what] + FLOOR[precision]
            if allowed < MOST:  # else the CPU does not know it itself
                yield Finding(name, what, precision, there[what], allowed)
        yield steps(name, device, detector, batch, precision)


def prepared_on(device: torch.device, detector: Detector, batch: Tensor):
    """What a detector prepares of a uint8 batch on a device; its draws are the CPU's."""
    there = copy.deepcopy(detector).to(device)
    torch.manual_seed(1)
    return there.prepare(training.to_float(batch, device))


def answers(device: torch.device, detector: Detector, prepared, precision: str) -> dict:
    """Name → tensor on the CPU: loss, gradient, attention mask; in fp32 also the scores."""
    detector = copy.deepcopy(detector).to(device)
    prepared = tree_map(lambda x: None if x is None else x.to(device), prepared)
    found: dict[str, Tensor] = {}
    for k, gate in enumerate(getattr(detector, "attention", None) or ()):
        gate.register_forward_hook(lambda m, a, out, k=k: found.update({f"mask {k}": out}))
    with autocast(device, precision):
        found["loss"] = detector.loss(prepared)
    (SCALE * found["loss"]).backward()  # fp16 would lose the small ones
    grads = [p.grad.flatten() for p in detector.parameters() if p.grad is not None]
    found["gradient"] = torch.cat(grads) / SCALE
    if precision == "fp32":  # as `collect` does
        with torch.no_grad():
            found |= detector.eval().score(prepared)
    return {what: value.detach().float().cpu() for what, value in found.items()}


def off(found: dict, truth: dict) -> dict[str, float]:
    """‖found − truth‖ / ‖truth‖ of each answer; NaN if any is."""
    return {what: ((value - truth[what]).norm() / truth[what].norm().clamp(min=1e-12)).item()
            for what, value in found.items()}  # fmt: skip


def shaken(detector: Detector, prepared, by: float = 1e-6) -> tuple[Detector, object]:
    """The same with each weight and each prepared float moved by about a millionth."""
    torch.manual_seed(2)

    def move(x):
        floats = isinstance(x, Tensor) and x.is_floating_point()
        return x * (1 + by * torch.randn_like(x)) if floats else x

    detector = copy.deepcopy(detector)
    with torch.no_grad():
        for p in detector.parameters():
            p.copy_(move(p))
    return detector, tree_map(move, prepared)


def steps(name: str, device: torch.device, detector: Detector, batch: Tensor, precision: str):
    """Train some steps on the device: off is 0 if the loss is finite and the weights moved."""
    there = training.laid_out(copy.deepcopy(detector), device).train()
    before = torch.cat([p.detach().flatten().clone() for p in there.parameters()])
    descent = Descent(there, 100, 1e-4, (), precision)
    losses = [descent(training.to_float(batch, device)) for _ in range(8)]
    after = torch.cat([p.detach().flatten() for p in there.parameters()])
    well = torch.stack(losses).isfinite().all() and after.isfinite().all()
    return Finding(name, "steps", precision, 0.0 if well and (before != after).any() else 1.0, 0.0)


# --- a training that moves


def trained(path: Path | None, stop: bool = False) -> list[float]:
    """The losses of a training; with `stop` it is interrupted in the middle, and goes on there."""
    torch.manual_seed(0)
    detector = boosted("03_reconstruction")
    images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)

    def watch(done: int) -> None:
        if stop and done == HALF:
            os.environ[training.UNTIL] = "0"

    try:
        return fit(detector, images, steps=STEPS, batch_size=4, checkpoint=path, watch=watch)
    except OutOfTime:
        return []
    finally:
        os.environ.pop(training.UNTIL, None)


def moves() -> Finding:
    """Begin on the best device, finish in a process that sees no GPU; beside it, all on one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "half.pt")
        assert trained(path, stop=True) == [] and path.exists()
        command = [sys.executable, __file__, "--finish", str(path)]
        env = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    losses = torch.tensor([json.loads(done.stdout.splitlines()[-1]), trained(None)])
    worst = (losses[0] / losses[1] - 1).abs().max().item()
    return Finding("a checkpoint", "GPU to CPU", "fp32", worst, DRIFT)


def exact() -> None:
    """Have fp32 be fp32: without TF32, and with kernels that add in a fixed order."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, help="write the findings to this JSON file")
    parser.add_argument("--device", default=training.best_device().type)
    parser.add_argument("--only", choices=cases(), nargs="+", help="these systems; else all")
    parser.add_argument("--finish", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    exact()
    if asked.finish:
        print(json.dumps(trained(asked.finish)))
        return 0
    findings = []
    for name in asked.only or cases():
        findings += compare(name, torch.device(asked.device))
        worst = max(findings, key=lambda one: one.off / max(one.allowed, 1e-12))
        print(f"{name:26} done; nearest to its limit so far: {worst.system}, {worst.what}, "
              f"{worst.precision}: {worst.off:.1e} of {worst.allowed:.1e}", flush=True)  # fmt: skip
    findings.append(moves())
    wrong = [one for one in findings if not one.fits]
    for one in wrong:
        print(f"OFF: {one.system}, {one.what}, {one.precision}: {one.off:.2e}, "
              f"allowed {one.allowed:.2e}")  # fmt: skip
    print(f"{len(findings) - len(wrong)} of {len(findings)} comparisons fit ({asked.device}).")
    if asked.to:
        asked.to.write_text(json.dumps([one._asdict() for one in findings], indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
