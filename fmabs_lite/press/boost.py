"""What the boost costs each system: parameters, operations and time of a training step.

Parameters and operations are counted, at the sizes of one profile, and depend on no machine. Times
are ratios to the plain step of the same system, taken in turns in one run. The page "What ran, and
how long" shows the table that was measured last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fmabs_lite.attention import ChannelAttention, SpatialAttention, SpatioChannelAttention
from fmabs_lite.detector import Detector
from fmabs_lite.lesson.records import device, versions, write_json
from fmabs_lite.mimicry import Boosted
from fmabs_lite.press.bench import SYSTEMS, System
from fmabs_lite.press.plan import Settings, plan
from fmabs_lite.press.speed import BOOST_STORED, PLAIN
from fmabs_lite.training import Descent, best_device, laid_out, to_float

NONE = "no attention"
ATTENTIONS: dict[str, Callable[[int], nn.Module | None]] = {
    NONE: lambda channels: None,
    "CA": lambda channels: ChannelAttention(channels, min(16, channels // 4)),
    "SA": lambda channels: SpatialAttention(),
    "SCA": SpatioChannelAttention,
}
CHAPTERS = ("04_feature_mimicking", "10_draem", "11_mnad", "12_pkgnet", "13_jigsaw", "15_hf2vad")


def measure(repo: Path, profile: str, rounds: int) -> dict[str, Any]:
    """Count and time all systems; write the result to `book/boost.json` and return it."""
    rows = {}
    for chapter in plan(repo, CHAPTERS, Settings(profile)):
        torch.set_num_threads(chapter.threads)
        values = chapter.provenance["parameters"]
        rows[chapter.name] = costs_of(SYSTEMS[chapter.name], values, rounds)
    found = {"profile": profile, "rounds": rounds, "device": device(), "versions": versions(),
             "rows": rows}  # fmt: skip
    write_json(repo / "book" / BOOST_STORED, found)
    return found


def costs_of(system: System, values: Mapping[str, Any], rounds: int) -> dict[str, Any]:
    """One system, plain and with each attention: what it has more of, and how long a step takes.

    Returns:
        By variant "parameters" (trained), "operations" (of a step, a multiple of the plain one's)
        and "time" (the median of as many ratios as rounds, and their quartiles).
    """
    batch = torch.randint(0, 256, (values["batch_size"], *system.sample(values)), dtype=torch.uint8)
    detectors = variants(system, values)
    counts = {name: operations(detector, batch) for name, detector in detectors.items()}
    ratios = in_turns({name: step_of(it, batch) for name, it in detectors.items()}, rounds)
    return {
        name: {
            "parameters": sum(p.numel() for p in detector.parameters()),
            "operations": counts[name] / counts[PLAIN],
            "time": [median(ratios[name]), *quantiles(ratios[name], n=4)[::2]],
        }
        for name, detector in detectors.items()
    }


def variants(system: System, values: Mapping[str, Any]) -> dict[str, Detector]:
    """The plain detector, and students of it with each attention or none."""
    torch.manual_seed(0)
    channels = system.channels(values)
    students = {name: Boosted(system.build(values), system.build(values).network, system.at,
                              attention(channels))
                for name, attention in ATTENTIONS.items()}  # fmt: skip
    return {PLAIN: system.build(values), **students}


def operations(detector: Detector, batch: Tensor) -> int:
    """Of one training step, forward and backward, as torch counts them."""
    prepared = detector.train().prepare(to_float(batch, torch.device("cpu")))
    detector.loss(prepared)  # the first time a teacher runs whole, to see what it has
    with FlopCounterMode(display=False) as counter:
        detector.loss(prepared).backward()
    return counter.get_total_flops()


def step_of(detector: Detector, batch: Tensor) -> Callable[[], object]:
    """A training step in fp32, as `fit` makes it."""
    where = best_device()
    laid_out(detector, where).train()
    descent = Descent(detector, 1000, 1e-5, (), "fp32")
    return lambda: descent(to_float(batch, where)).item()


def in_turns(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """The time of every step beside the plain one's, in each round after a first that warms up."""
    took = [{name: seconds(step) for name, step in steps.items()} for _ in range(rounds + 1)][1:]
    return {name: [row[name] / row[PLAIN] for row in took] for name in steps}


def seconds(step: Callable[[], object]) -> float:
    """What a step takes of the processor, without its waiting for others; of a GPU on the clock."""
    clock = time.perf_counter if best_device().type == "cuda" else time.process_time
    start = clock()
    step()
    return clock() - start
