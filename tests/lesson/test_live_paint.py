"""The figure to paint on: its networks are the chapter's, its strokes what they are called."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
import torch
from torch import nn

from fmabs_lite.attention import ChannelAttention, SpatioChannelAttention
from fmabs_lite.lesson.live import Stroke, paint
from fmabs_lite.lesson.live.engine import (
    answers,
    chained,
    folded,
    gaussian,
    maps_of,
    networks_of,
    sent,
)
from fmabs_lite.mimicry import Boosted
from fmabs_lite.models import AutoEncoder, Reconstruction
from fmabs_lite.scoring import smooth
from fmabs_lite.training import collect

SCRATCH = Stroke("dark", 0, [(2, 3), (5, 6)])
PARTS = torch.randint(0, 256, (3, 3, 32, 32), generator=torch.manual_seed(0), dtype=torch.uint8)


def network(seed: int, code: int = 8) -> AutoEncoder:
    """A small one, whose normalisation has seen something."""
    torch.manual_seed(seed)
    made = AutoEncoder(width=4, code=code)
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.5, 0.5)
            part.running_var.uniform_(0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 2)
            nn.init.uniform_(part.bias, -0.5, 0.5)
    return made.eval()


def boosted(attention=None, **how) -> Boosted:
    return Boosted(Reconstruction(network(0)), network(1), attention=attention, **how).eval()


@pytest.mark.parametrize("attention", [None, SpatioChannelAttention(8, 2, 3)])
def test_the_engines_networks_answer_as_the_detector_does(attention):
    student = boosted(attention)
    seen, found = collect(student, PARTS), answers(networks_of(student), PARTS)
    np.testing.assert_allclose(found["map_o"], seen["map_o"], atol=2e-3)
    fea = found["fea_i"].square().mean(dim=1)
    np.testing.assert_allclose(fea, seen["map_fea"], atol=2e-3)
    with torch.no_grad():
        wanted = student.network(PARTS.float() / 255)
    torch.testing.assert_close(found["reconstruction"], wanted, atol=5e-3, rtol=0)
    if attention is not None:  # M is not forgotten
        plain = chained(folded(network(0)), PARTS.float() / 255)
        assert (found["reconstruction"] - plain).abs().max() > 0.02


def test_the_figures_maps_are_those_of_chapter_04():
    from fmabs_lite.scoring import enlarge

    student = boosted()
    seen, maps = collect(student, PARTS), maps_of(networks_of(student), PARTS, 1.0)
    np.testing.assert_allclose(maps["error"], smooth(seen["map_o"], 1.0), atol=2e-3)
    wanted = smooth(enlarge(seen["map_fea"], (32, 32)), 1.0)
    np.testing.assert_allclose(maps["inconsistency"], wanted, atol=2e-3)


@pytest.mark.parametrize("sigma", [0, 0.7, 1.0, 2.5])
def test_the_pages_gaussian_is_the_one_of_smooth(sigma):
    dot = np.zeros((1, 41, 41), dtype=np.float32)
    dot[0, 20, 20] = 1
    weights = np.array(gaussian(sigma))
    half = len(weights) // 2
    found = np.outer(weights, weights)
    around = slice(20 - half, 21 + half)
    np.testing.assert_allclose(found, smooth(dot, sigma)[0, around, around], atol=1e-5)


def test_a_network_of_the_book_takes_less_than_100_kilobytes():
    layers = networks_of(Reconstruction(AutoEncoder(width=16, code=64)))
    sheets = [sent(chain) for chain in layers.values()]
    held = sum(len(base64.b64decode(sheet[key])) for sheet in sheets for key in ("steps", "halves"))
    # A byte for each weight, and for each output channel two halves: a scale and a bias.
    convolutions = [layer for layer in AutoEncoder(width=16, code=64).modules()
                    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))]  # fmt: skip
    assert held == sum(c.weight.numel() + 4 * c.out_channels for c in convolutions) < 100_000


def test_a_stroke_covers_a_line_of_discs_and_nothing_else():
    whole = PARTS[0].numpy()
    changed = (SCRATCH.on(whole) != whole).any(axis=0)
    assert {*zip(*np.nonzero(changed), strict=True)} == {(3, 2), (4, 3), (5, 4), (6, 5)}
    dab = Stroke("light", 1, [(0, 0)]).on(np.zeros((3, 8, 8), np.uint8))
    assert {*zip(*np.nonzero(dab[0]), strict=True)} == {(0, 0), (0, 1), (1, 0)}
    assert set(np.unique(dab)) == {0, 235}


def test_a_copy_comes_from_the_right_and_a_mirror_image_from_the_other_side():
    whole = np.arange(3 * 32 * 32, dtype=np.uint16).reshape(3, 32, 32)
    assert Stroke("copy", 0, [(4, 7)]).on(whole)[1, 7, 4] == whole[1, 7, 24]
    assert Stroke("copy", 0, [(20, 7)]).on(whole)[1, 7, 20] == whole[1, 7, 8]  # around the edge
    assert Stroke("mirror", 0, [(4, 7)]).on(whole)[2, 7, 4] == whole[2, 7, 27]


def shown(monkeypatch, *args, **kwargs) -> dict[str, str]:
    told: list[dict[str, str]] = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: told.append(bundle))
    paint(*args, **kwargs)
    return told[0]


def test_the_output_holds_all_that_it_needs(monkeypatch):
    student = boosted(SpatioChannelAttention(8, 2))
    bundle = shown(monkeypatch, student, PARTS[:1], PARTS[1:], {"a <b>": SCRATCH}, alt=" A part. ")
    page = bundle["text/html"]
    assert bundle["text/plain"] == "A part."
    assert 'alt="A part."' in page and "http" not in page and 'src="data:' in page
    assert "<b>" not in page.replace("<b>", "", 5)  # the five panels' names, and no ready defect's
    told = json.loads(re.search(r"json\">(.*?)</script>", page, flags=re.S)[1])
    assert set(told["networks"]) == {"encoder", "decoder", "teacher", "attention"}
    assert [len(peaks) for peaks in told["peaks"].values()] == [2, 2]
    assert told["peaks"]["error"] == sorted(told["peaks"]["error"])
    assert page.count("<canvas") == 5


def test_a_detector_without_teacher_shows_no_inconsistency(monkeypatch):
    bundle = shown(monkeypatch, Reconstruction(network(0)), PARTS[:1], PARTS[1:],
                   {"a scratch": SCRATCH}, alt="A part.")  # fmt: skip
    assert bundle["text/html"].count("<canvas") == 3


@pytest.mark.parametrize(
    "change, said",
    [
        ({"alt": " "}, "alt is empty"),
        ({"ready": {}}, "no ready defect"),
        ({"ready": {"x": Stroke("red", 1, [(0, 0)])}}, "no brush 'red'; choose from dark"),
        ({"parts": PARTS.float()}, r"parts are torch.float32 \(3, 3, 32, 32\)"),
        ({"parts": PARTS[:, :1]}, "uint8 .N, 3, S, S. is wanted"),
        ({"parts": PARTS[..., :30, :30]}, "of a side that 8 divides"),
        ({"parts": PARTS[:0]}, "one at least"),
    ],
)
def test_what_cannot_be_shown_is_refused(change, said):
    given = {"parts": PARTS, "ready": {"a scratch": SCRATCH}, "alt": "A part."} | change
    with pytest.raises(ValueError, match=said):
        paint(Reconstruction(network(0)), normal=PARTS, **given)


def test_networks_that_the_engine_cannot_run_are_refused():
    with pytest.raises(TypeError, match="as AutoEncoder; this is a Sequential"):
        networks_of(Reconstruction(nn.Sequential(nn.Conv2d(3, 3, 1))))
    with pytest.raises(TypeError, match="this is a ChannelAttention"):
        networks_of(boosted(ChannelAttention(8, 2)))
    with pytest.raises(TypeError, match="at its bottleneck alone"):
        networks_of(boosted(refine="residual"))
    with pytest.raises(TypeError, match="knows no Tanh"):
        folded(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Tanh()))


def test_a_detector_for_which_the_page_would_answer_otherwise_is_refused():
    class Rooted(Reconstruction):
        """Not the squared error, but its root."""

        def score(self, prepared):
            parts = super().score(prepared)
            return parts | {"map_o": parts["map_o"].sqrt()}

    with pytest.raises(TypeError, match="from that of this Rooted"):
        paint(Rooted(network(0)), PARTS, PARTS, {"a scratch": SCRATCH}, alt="A part.")


def test_eight_bits_round_to_half_a_step_of_their_channel():
    torch.manual_seed(0)
    plain = nn.ConvTranspose2d(3, 2, 2)
    with torch.no_grad():
        plain.weight[:, 1] *= 100
    layer = folded(plain)[0]
    off = (layer.weight - plain.weight.detach()).abs().amax(dim=(0, 2, 3))
    assert (off <= 0.51 * layer.scale).all() and 20 < layer.scale[1] / layer.scale[0] < 500
    assert layer.steps().abs().amax() == 127
    nothing = nn.Conv2d(1, 1, 1)
    nn.init.zeros_(nothing.weight)
    assert (folded(nothing)[0].weight == 0).all()
