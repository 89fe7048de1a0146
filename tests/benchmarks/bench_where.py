"""Where a training step spends its time: convolutions, and what else there is."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from fmabs_lite.press.bench import SYSTEMS
from fmabs_lite.press.boost import step_of
from fmabs_lite.press.plan import Settings, plan
from fmabs_lite.training import best_device

REPO = Path(__file__).parents[2]
CHAPTERS = ("03_reconstruction", "10_draem", "11_mnad", "12_pkgnet", "13_jigsaw", "14_ast_mfr",
            "15_hf2vad")  # fmt: skip
# An operation belongs to the first kind a piece of whose names it has; to "the rest" otherwise.
KINDS = {
    "convolutions": ("conv",),
    "normalisation": ("_norm",),
    "activations and pooling": ("relu", "elu", "threshold", "pool", "sigmoid", "silu", "clamp",
                                "softmax"),
    "Adam": ("adam",),
    "copies": ("copy", "clone", "cat", "fill", "zero", "stack", "index", "gather"),
}  # fmt: skip
REST = "the rest"


def kind_of(operation: str) -> str:
    """Which kind of work an operation of torch is, by its name."""
    name = operation.lower()
    return next((kind for kind, parts in KINDS.items() if any(p in name for p in parts)), REST)


def shares(chapter: str, values: dict, steps: int) -> dict[str, float]:
    """The share of each kind in some steps, after one to warm up; together 1."""
    system = SYSTEMS[chapter]
    batch = torch.randint(0, 256, (values["batch_size"], *system.sample(values)), dtype=torch.uint8)
    step = step_of(system.build(values), batch)
    step()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(steps):
            step()
    spent = dict.fromkeys([*KINDS, REST], 0.0)
    for event in found.key_averages():
        spent[kind_of(event.key)] += event.self_cpu_time_total
    total = sum(spent.values())
    return {kind: round(value / total, 4) for kind, value in spent.items()}


def rows(rounds: int, tiny: bool) -> Iterator[dict]:
    """A system's sample, batch and shares, at the sizes of profile cpu; with `tiny`, of quick."""
    if best_device().type != "cpu":
        raise SystemExit("where: only what a processor does is told; hide the GPU")
    profile_name = "quick" if tiny else "cpu"
    for chapter in plan(REPO, CHAPTERS, Settings(profile_name)):
        torch.set_num_threads(1)
        values = chapter.provenance["parameters"]
        sample = SYSTEMS[chapter.name].sample(values)
        yield {
            "chapter": chapter.name, "profile": profile_name, "sample": list(sample),
            "batch": values["batch_size"], "shares": shares(chapter.name, values, rounds),
        }  # fmt: skip
