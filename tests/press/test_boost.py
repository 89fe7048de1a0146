"""What the boost costs: counted by hand, timed by turns, told as it was measured."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fmabs_lite.press import boost
from fmabs_lite.press.bench import SYSTEMS
from fmabs_lite.press.boost import costs_of, in_turns
from fmabs_lite.press.speed import BOOST, PLAIN, boost_table, with_boost

TINY = dict(size=16, width=4, code=16, batch_size=2)


@pytest.fixture(scope="module")
def costs() -> dict:
    return costs_of(SYSTEMS["04_feature_mimicking"], TINY, rounds=3)


def test_an_attention_adds_the_parameters_of_its_equation(costs):
    """Of 16 channels: CA with r = 4 has 16·4 + 4 and 4·16 + 16; SCA with r = 8 the same with 2."""
    own = costs[PLAIN]["parameters"]
    more = {name: cost["parameters"] - own for name, cost in costs.items()}
    assert more == {PLAIN: 0, "no attention": 0, "CA": 148, "SA": 2 * 49 + 1, "SCA": 82}


def test_operations_are_those_of_the_teacher_and_the_attention(costs):
    """A step of all convolutions is three passes, but for the first, whose input has no gradient.

    In multiply-adds at 16²: encoder 8·8·48·4, 4·4·64·8, 2·2·128·16, bottleneck 2·2·16·16; the
    decoder is its mirror image.
    """
    passes = [8 * 8 * 48 * 4, 4 * 4 * 64 * 8, 2 * 2 * 128 * 16, 2 * 2 * 16 * 16]
    up = [2 * 2 * 16 * 8 * 16, 4 * 4 * 8 * 4 * 16, 8 * 8 * 4 * 3 * 16]
    plain = 3 * (sum(passes) + sum(up)) - passes[0]
    assert costs[PLAIN]["operations"] == 1
    assert costs["no attention"]["operations"] == pytest.approx(1 + sum(passes) / plain)
    # Both layers of SCA at 2 × 2 places, forward and backward, but Fea_I of the teacher has none.
    sca = 3 * 2 * (2 * 2 * 16 * 2)
    assert costs["SCA"]["operations"] == pytest.approx(1 + (sum(passes) + sca) / plain)


def test_times_are_ratios_to_the_plain_step_of_the_same_round(monkeypatch):
    took = iter([9, 9, 2, 3, 4, 10, 1, 4])  # the first round warms up
    monkeypatch.setattr(boost, "seconds", lambda step: next(took))
    ratios = in_turns({PLAIN: lambda: 0, "SA": lambda: 0}, rounds=3)
    assert ratios == {PLAIN: [1, 1, 1], "SA": [1.5, 2.5, 4]}


def test_the_page_tells_what_was_measured_last(costs, tmp_path):
    (tmp_path / "book").mkdir()
    assert with_boost(f"a\n{BOOST}\nb", tmp_path) == "a\nNothing was measured.\nb"
    found = {"profile": "cpu", "rounds": 3, "device": "cpu", "versions": {"torch": "2.9"},
             "rows": {"04_feature_mimicking": costs}}  # fmt: skip
    (tmp_path / "book" / "boost.json").write_text(json.dumps(found))
    page = with_boost(f"a\n{BOOST}\nb", tmp_path)
    assert page == f"a\n{boost_table(found)}\nb"
    assert "| | SA | " in page and " | 99 | " in page and "3 rounds" in page and "torch 2.9" in page


def test_a_build_does_not_wait_for_torch():
    """It took three seconds of every build, only to print tables."""
    asked = "import sys, fmabs_lite.press.build; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
