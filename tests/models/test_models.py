"""The small auto-encoder and its two tasks."""

import pytest
import torch

from fmabs_lite.models import AutoEncoder, Prediction, Reconstruction
from fmabs_lite.models.autoencoder import damaged


def test_autoencoder_keeps_the_size_and_narrows_in_between():
    network, x = AutoEncoder(c_in=4, c_out=1, width=8, code=5), torch.rand(2, 4, 24, 40)
    assert network(x).shape == (2, 1, 24, 40)
    assert network.bottleneck(network.encoder(x)).shape == (2, 5, 3, 5)


def test_autoencoder_parameters_counted_by_hand():
    def conv(c_in, c_out, k):
        return c_in * c_out * k * k + c_out

    w, code = 8, 5
    expected = conv(3, w, 4) + conv(w, 2 * w, 4) + conv(2 * w, 4 * w, 4) + conv(4 * w, code, 1)
    expected += conv(code, 2 * w, 4) + conv(2 * w, w, 4) + conv(w, 3, 4)
    expected += 2 * (w + 2 * w + 4 * w) + 2 * (2 * w + w)  # batch norm: scale and offset
    assert sum(p.numel() for p in AutoEncoder(width=w, code=code).parameters()) == expected


def test_autoencoder_refuses_a_size_that_cannot_be_halved_three_times():
    with pytest.raises(ValueError, match="20×24.*multiples of 8"):
        AutoEncoder()(torch.rand(1, 3, 20, 24))


def test_reconstruction_by_hand():
    class Black(torch.nn.Module):
        def forward(self, x):
            return torch.zeros_like(x)

    batch = torch.stack([torch.full((3, 8, 8), 0.5), torch.full((3, 8, 8), 1.0)])
    detector = Reconstruction(Black())
    parts = detector.score(detector.prepare(batch))
    assert parts["S_o"].tolist() == [0.25, 1.0]
    assert parts["map_o"].shape == (2, 8, 8) and parts["map_o"][0, 3, 3] == 0.25
    assert detector.loss(detector.prepare(batch)).item() == 0.625


def test_reconstruction_damages_only_while_training():
    detector, batch = Reconstruction(AutoEncoder(width=4), damage=0.5), torch.rand(4, 3, 16, 16)
    prepared = detector.train().prepare(batch)
    assert torch.equal(prepared.target, batch)
    changed = (prepared.input != batch).any(dim=1).flatten(1).sum(dim=1)
    assert changed.tolist() == [64] * 4  # a square of 8 × 8 in each
    assert torch.equal(detector.eval().prepare(batch).input, batch)


def test_damaged_draws_another_square_for_each_image():
    torch.manual_seed(0)
    images = torch.rand(16, 3, 32, 32)
    got = damaged(images, 0.25)
    places = {tuple(torch.nonzero((g != i).any(0))[0].tolist())
              for g, i in zip(got, images, strict=True)}  # fmt: skip
    assert len(places) > 8
    hole = got[0][:, (got[0] != images[0]).any(0)]
    assert hole.unique().numel() == 1  # one grey


def test_prediction_asks_for_the_change_and_sees_only_the_past():
    windows = torch.rand(2, 5, 1, 8, 8)
    prepared = Prediction(AutoEncoder(4, 1, 4)).prepare(windows)
    assert torch.equal(prepared.input, windows[:, :4, 0])
    assert torch.equal(prepared.target, windows[:, 4] - windows[:, 3])


def test_foreseeing_nothing_scores_like_a_frame_difference():
    class Nothing(torch.nn.Module):
        def forward(self, x):
            return torch.zeros_like(x[:, :1])

    windows, detector = torch.rand(2, 5, 1, 8, 8), Prediction(Nothing())
    parts = detector.score(detector.prepare(windows))
    assert torch.allclose(parts["map_o"], (windows[:, 4, 0] - windows[:, 3, 0]) ** 2)


class Answers(torch.nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


@pytest.mark.parametrize(
    "make, kind, message",
    [(lambda x: {"out": x}, TypeError, r"returns a dict; a tensor \(2, 3, 8, 8\) is wanted"),
     (lambda x: (x, x), TypeError, "returns a tuple"),
     (lambda x: x[:, :1], ValueError, r"returns \(2, 1, 8, 8\) where the target is \(2, 3, 8, 8\)"),
     (lambda x: x[..., ::2, ::2], ValueError, r"returns \(2, 3, 4, 4\)")],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["loss", "score"])
def test_an_answer_that_cannot_be_compared_is_refused(make, kind, message, verb):
    """One channel would be broadcast against three, and a number come out."""
    detector = Reconstruction(Answers(make))
    with pytest.raises(kind, match=message):
        getattr(detector, verb)(detector.prepare(torch.rand(2, 3, 8, 8)))
