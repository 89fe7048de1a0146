"""What a machine trains: each chapter's own system is measured, a cell's cost reckoned by it."""

from __future__ import annotations

import re

import pytest
import torch
from click.testing import CliRunner
from torch.utils.flop_counter import FlopCounterMode

from fmabs_lite.attention import SpatioChannelAttention
from fmabs_lite.mimicry import Boosted
from fmabs_lite.press import bench, cli, costs
from fmabs_lite.press.bench import SYSTEMS, Rate, rate_of
from fmabs_lite.press.plan import Settings, chapters, plan
from fmabs_lite.press.sweep import read_sweep

ROOT = bench.Path(__file__).resolve().parents[2]
TINY = {
    "10_draem": dict(size=32, width=4, disc_width=4, window=3),
    "11_mnad": dict(ped2_size=[16, 24], width=4, items=2, frames=4),
    "12_pkgnet": dict(cube=16, width=4),
    "13_jigsaw": dict(size=16, width=4, frames=4),
    "15_hf2vad": dict(cube=16, memory_width=4, slots=5, width=4),
    "08_the_loss": dict(size=16, width=4, code=8),
}


@pytest.mark.parametrize("chapter", TINY)
def test_plain_and_boosted_steps_are_counted(chapter):
    found = rate_of(chapter, TINY[chapter] | {"batch_size": 2, "precision": "fp32"}, seconds=0.01)
    assert found.plain > 0 and found.boosted > 0 and found.precision == "fp32"


def test_speed_counts_samples_and_leaves_the_first_steps_out(monkeypatch):
    """A clock that ticks once a look: three looks a second."""
    ticks = iter(range(1000))
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(ticks) / 3)
    values = TINY["11_mnad"] | {"batch_size": 2, "precision": "fp32"}
    detector = SYSTEMS["11_mnad"].build(values)
    batch = bench.torch.zeros(2, *SYSTEMS["11_mnad"].sample(values), dtype=bench.torch.uint8)
    # Begun at tick 0, looked at ticks 1, 2 and 3 after a step each; the end is read at tick 4.
    assert bench.speed(detector, batch, "fp32", 1.0) == pytest.approx(3 * 2 / (4 / 3))


def test_every_system_is_built_from_its_chapters_parameters():
    """At the sizes of every profile, on shapes alone where it is large."""
    assert set(SYSTEMS) <= set(chapters(ROOT))
    for profile in ("quick", "cpu", "colab", "full"):
        for chapter in plan(ROOT, list(SYSTEMS), Settings(profile)):
            values, system = chapter.provenance["parameters"], SYSTEMS[chapter.name]
            assert all(isinstance(side, int) for side in system.sample(values))
            if profile == "quick" and system.at:
                network = system.build(values).network
                assert network.get_submodule(system.at) is not None


# Trainings for one seed in each chapter, in units of `steps`; what has seeds[0] only, such as
# Avenue, is spread over three seeds where there are three.
TRAININGS = {
    "03_reconstruction": 3, "04_feature_mimicking": 3, "05_channel_attention": 5,
    "06_spatial_attention": 6, "07_spatio_channel_attention": 12, "08_the_loss": 11,
    "10_draem": 8, "11_mnad": 14, "12_pkgnet": 13, "13_jigsaw": 6.3, "14_ast_mfr": 19,
    "15_hf2vad": 6,
}  # fmt: skip
T4 = 0.15 * 65e12  # operations a second that the profile's comment reckons with
LAUNCHES = 0.025  # seconds that the smallest step takes


def operations(name: str, p: dict) -> float:
    """Of one training step of the chapter's largest detector, forward and backward."""
    system = SYSTEMS[name]
    detector = system.build(p)
    if system.at:
        attention = SpatioChannelAttention(system.channels(p))
        detector = Boosted(detector, system.build(p).network, system.at, attention)
    few = 2 if name == "13_jigsaw" else 1  # one cube for each kind of puzzle
    batch = torch.rand(few, *system.sample(p))
    with FlopCounterMode(display=False) as counter:
        loss = detector.train().loss(detector.prepare(batch))
        forward = counter.get_total_flops()
        if name != "14_ast_mfr":  # of grouped convolutions torch counts the gradients too high
            loss.backward()
    whole = 3 * forward if name == "14_ast_mfr" else counter.get_total_flops()
    return whole / few * p["batch_size"]


@pytest.mark.slow
def test_colab_trains_for_as_long_as_the_profile_says():
    assert set(TRAININGS) == set(SYSTEMS)
    for chapter in plan(ROOT, list(SYSTEMS), Settings("colab")):
        p = chapter.provenance["parameters"]
        step = max(LAUNCHES, operations(chapter.name, p) / T4)
        minutes = TRAININGS[chapter.name] * len(p["seeds"]) * p["steps"] * step / 60
        assert 8.5 < minutes < 19.5, f"{chapter.name}: {minutes:.1f} minutes"
        assert p["precision"] == "auto"  # bf16 would be emulated


SWEEP = """\
chapter: 11_mnad
profile: quick
grid: {seeds: [[0], [1]]}
fixed: {steps: 50, batch_size: 4, width: 17}
"""


def test_a_dry_run_says_what_a_network_takes_where_nothing_was_run(tmp_path, monkeypatch):
    path = tmp_path / "mine.yml"
    path.write_text(SWEEP)
    monkeypatch.setattr(bench, "rate_of", lambda name, values: Rate(20.0, 10.0, "fp32"))
    costs._rate.cache_clear()
    sweep = read_sweep(ROOT, path)
    for chapter in sweep.cells.values():
        known = chapter.provenance["parameters"]
        for several in ([], ["few"], ["all"]):
            known["rows"] = several
            cost = costs._from_bench(chapter)
            assert cost.seconds is None and "a network takes 20 s; how many" in cost.source
        known["rows"] = ["a", "b", "c"]
        cost = costs._from_bench(chapter)
        assert cost.seconds == 3 * 50 * 4 / 10 and cost.source.startswith("3 network(s)")
    costs._rate.cache_clear()


def test_the_command_prints_a_line_for_each_chapter(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(bench, "rate_of", lambda name, values, seconds: Rate(20.0, 0.0, "bf16"))
    result = CliRunner().invoke(cli.main, ["bench", "--profile", "quick"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert len(lines) == 3 + len(SYSTEMS) and "some training steps" in lines[0]
    assert re.search(r"11_mnad +5×1×\d+×\d+ +4 +bf16 +20.0 +– ", result.output)
