"""Checks of the exercises of chapter 07: spatio-channel attention."""

from fmabs_lite.lesson.exercises.registry import exercise


@exercise("07.1")
def _parameters(parameters):
    got = parameters(512, 8, 1)
    assert got != 65_536, "Those are the weights; add c/r biases of E and c of D."
    assert got == 66_112, f"c = 512, r = 8, k = 1 has 66,112 parameters, not {got}."
    assert parameters(512, 8, 3) == 590_400, "A kernel has k² weights for each pair of channels."
    assert parameters(10, 4, 1) == 52, "c/r is rounded down: 10 channels, r = 4, 2 hidden ones."


@exercise("07.2")
def _agreed(agreed):
    import torch

    b_e, b_d = torch.tensor([1.0, -1.0]), torch.tensor([0.0, 0.5, -0.5])
    d = torch.tensor([[1.0, 2.0], [-1.0, 0.5], [0.3, -2.0]])
    got = agreed(b_e, d, b_d)
    assert got.shape == (3,), f"One number for each channel, (3,), not {tuple(got.shape)}."
    assert not torch.allclose(got, b_d.sigmoid()), "E's bias comes through the ReLU as well."
    assert not torch.allclose(got, (d @ b_e + b_d).sigmoid()), (
        "A negative bias of E is stopped by the ReLU."
    )
    assert torch.allclose(got, (d @ b_e.relu() + b_d).sigmoid()), "σ(D · ReLU(b_E) + b_D)."


@exercise("07.3")
def _centred(centred):
    import torch

    fea_s = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    at_rest = torch.tensor([0.5, 0.25, 0.8, 0.1])
    m = at_rest[:, None, None].expand_as(fea_s)
    got = centred(fea_s, m, at_rest)
    assert got.shape == fea_s.shape, "The shape stays (B, C, h, w)."
    assert torch.allclose(got, fea_s, atol=1e-5), (
        "Where M is M(0), Fea_S must come out as it went in; mind that M(0) runs along dim 1."
    )
    assert torch.allclose(centred(fea_s, m / 2, at_rest), fea_s / 2, atol=1e-5), (
        "Half the mask should give half the feature: divide by M(0), do not subtract it."
    )
