"""Checks of the exercises of chapter 06: spatial attention."""

from fmabs_lite.lesson.exercises.registry import exercise


@exercise("06.1")
def _pooled(pooled):
    import torch

    fea_i = torch.tensor([1.0, 4.0, 1.0]).view(1, 3, 1, 1).repeat(2, 1, 4, 5)
    got = pooled(fea_i)
    assert tuple(got.shape) == (2, 2, 4, 5), f"The shape is (2, 2, 4, 5), not {tuple(got.shape)}."
    first, second = (float(x) for x in got[0, :, 0, 0])
    assert (first, second) != (2, 4), "The order of CBAM's code is the maximum first."
    assert first == 4, f"Of 1, 4 and 1 the maximum is 4; your first map has {first:g}."
    assert abs(second - 2) < 1e-6, f"Of 1, 4 and 1 the average is 2; your second has {second:g}."


@exercise("06.2")
def _suppressor(suppressor):
    import torch

    attention = suppressor(2.0)
    kernel = tuple(attention.conv.weight.shape[2:])
    assert kernel == (1, 1), f"The kernel has side 1: no neighbour counts. Yours is {kernel}."
    block = torch.zeros(1, 2, 1, 2)
    block[0, :, 0, 1] = torch.tensor([0.5, 1.5])  # average 1, maximum 1.5
    with torch.no_grad():
        calm, loud = (float(x) for x in attention(block).flatten())
    assert abs(calm - 0.5) < 1e-6, f"At Fea_I = 0 M is 0.5; yours is {calm:.3f}. Set the bias to 0."
    assert loud < 0.5, "M grows where the networks disagree; the weight has to be negative."
    right = float(torch.tensor(-2.0).sigmoid())
    assert abs(loud - right) < 1e-5, (
        f"For an average of 1 and strength 2, M is σ(−2) = {right:.3f}; yours is {loud:.3f}. "
        "The maximum gets the weight 0."
    )


@exercise("06.3")
def _reach(reach):
    whole = reach(7, 4, 4)
    assert whole <= 1, "A share is never above 1: the kernel cannot see beyond the map."
    assert abs(whole - 1) < 1e-9, f"On 4 × 4 a kernel of 7 sees all of it; yours gives {whole:g}."
    for k, h, w, right in ((7, 8, 8, 49 / 64), (1, 8, 8, 1 / 64), (7, 4, 14, 28 / 56)):
        got = reach(k, h, w)
        assert abs(got - right) < 1e-9, f"{k} on {h} × {w} gives {right:g}; yours gives {got:g}."


@exercise("06.4")
def _uneven(uneven):
    import torch

    m = torch.tensor([[0.2, 0.4], [0.1, 0.2]]).view(2, 1, 1, 2)
    got = uneven(m)
    assert got.shape == m.shape, f"The shape stays {tuple(m.shape)}; yours is {tuple(got.shape)}."
    assert torch.allclose(got[0], got[1], atol=1e-6), (
        "The second mask is half the first, so the level apart they are the same: divide each "
        "mask by its own mean, not by that of the batch."
    )
    assert abs(float(got[0].mean()) - 1) < 1e-6, "Each mask has a mean of 1 afterwards."
    assert abs(float(got[0, 0, 0, 1] / got[0, 0, 0, 0]) - 2) < 1e-5, (
        "Divide, do not subtract: a place with twice the M keeps twice the M."
    )
