"""Checks of the exercises of chapter 14: AST-MFR."""

from fmabs_lite.lesson.exercises.registry import exercise


@exercise("14.1")
def _masked(masked):
    import torch

    feature = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    uniform = torch.tensor([[0.1, 0.3], [0.6, 0.9]])
    got = torch.as_tensor(masked(feature, uniform, 0.3))
    assert got.shape == feature.shape, (
        f"A masked feature keeps its shape, {tuple(feature.shape)}; yours has {tuple(got.shape)}."
    )
    zero = got == 0
    assert torch.equal(zero[0], zero[1]), (
        "One mask h × w serves all channels: a position is lost in all of them or in none."
    )
    assert zero[0, 0, 0], "0.1 lies below the rate 0.3, so that position becomes 0."
    assert not zero[0, 1].any(), (
        "0.6 and 0.9 lie above the rate 0.3, so those positions are kept: the rate is the share "
        "that is lost."
    )
    assert not zero[0, 0, 1], "0.3 does not lie below the rate 0.3: Algorithm 1 has <, not ≤."
    assert torch.equal(got[:, ~zero[0]], feature[:, ~zero[0]]), (
        "What is kept keeps its value: Algorithm 1 does not divide by the share that is left."
    )
    assert feature[0, 0, 0] == 1, "The feature itself must not change; return a new tensor."


@exercise("14.2")
def _unit_distance(apart):
    import torch

    t = torch.tensor([[[1.0, 3.0, 1.0]], [[0.0, 4.0, 0.0]]])
    s = torch.tensor([[[0.0, 6.0, -2.0]], [[1.0, 8.0, 0.0]]])
    got = torch.as_tensor(apart(t, s)).float()
    assert tuple(got.shape) == (1, 3), (
        f"One number for each position: (1, 3), not {tuple(got.shape)}. Sum over the channels, "
        "the first axis."
    )
    right, same, opposite = got[0].tolist()
    assert abs(same) < 1e-5, (
        f"(3, 4) and (6, 8) point the same way, and lengths do not count: 0, not {same:.3f}. "
        "Divide each vector by its own length first."
    )
    assert abs(right - 2) > 1e-3, (
        "(1, 0) and (0, 1) are √2 apart, and the square of that is 2; eq. 3 halves it."
    )
    assert abs(right - 1) < 1e-5, f"(1, 0) and (0, 1) stand at a right angle: 1, not {right:.3f}."
    assert abs(opposite - 2) < 1e-5, f"(1, 0) and (−2, 0) are opposite: 2, not {opposite:.3f}."
    one, other = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    cosine = torch.nn.functional.cosine_similarity(one, other, dim=0)
    gap = float((torch.as_tensor(apart(one, other)) - (1 - cosine)).abs().max())
    assert gap < 1e-5, f"It must be one minus the cosine everywhere; yours is off by {gap:.3f}."


@exercise("14.3")
def _by_size(by_size):
    shares = [0.01, 0.05, 0.20, 0.04, 0.30]
    good, bad = [1.0, 2.0, 3.0, 4.0], [2.5, 5.0, 3.5, 4.5, 0.5]
    got = by_size(shares, good, bad)
    assert isinstance(got, dict), "Return a dict with the keys small, middle and large."
    assert set(got) == {"small", "middle", "large"}, (
        f"The keys are small, middle and large; yours are {', '.join(map(str, got))}."
    )
    right = {"small": 0.75, "middle": 0.875, "large": 0.0}
    why = {
        "small": "defects of 0.01 and 0.04 with scores 2.5 and 4.5, against all good images",
        "middle": "defects of 0.05 and 0.20, because both limits belong to it",
        "large": "the one defect of 0.30, which scores below every good image",
    }
    for name, value in right.items():
        assert got[name] is not None and abs(float(got[name]) - value) < 1e-9, (
            f"{name} holds {why[name]}: an AUROC of {value}, not {got[name]}."
        )
    empty = by_size([0.01, 0.02], good, [5.0, 6.0])
    assert empty["small"] == 1, f"Both small defects beat all good images: 1, not {empty['small']}."
    assert empty["middle"] is None and empty["large"] is None, (
        "Where there is no defect of a size there is no AUROC: None, as the dashes of Table 3."
    )
