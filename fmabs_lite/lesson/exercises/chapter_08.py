"""Checks of the exercises of chapter 08: the loss."""

from fmabs_lite.lesson.exercises.registry import exercise


@exercise("08.1")
def _norm(norm):
    import torch

    fea_t = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1).expand(3, 2, 4, 5)
    got = torch.as_tensor(norm(fea_t, torch.zeros(3, 2, 4, 5)))
    assert got.numel() == 1, f"One number for the batch, not the shape {tuple(got.shape)}."
    value = got.item()
    assert abs(value - 2.5) > 1e-4, "That is the mean over all numbers; sum over C, h and w."
    assert abs(value - 300) > 1e-3, "That is the sum over the images too; average over them."
    assert abs(value - 10) > 1e-3, "That is the norm itself; eq. 3 has its square."
    assert abs(value - 100) < 1e-3, f"Here it is 20 · (1² + 2²) = 100; yours gives {value:g}."


@exercise("08.2")
def _pulls_harder(pulls_harder):
    import torch

    # Mean 0.3, but root mean square 0.67: one number in five is large.
    uneven = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.5]).view(1, 5, 1, 1)
    cases = ((torch.full((2, 3, 4, 4), 0.6), True), (torch.full((2, 3, 4, 4), 0.4), False))
    for fea_i, right in cases:
        got = pulls_harder(fea_i)
        where = float(fea_i[0, 0, 0, 0])
        assert bool(got) == right, f"With {where:g} everywhere the answer is {right}: 2d against 1."
    assert bool(pulls_harder(uneven)), (
        "The length of the gradient of d² is that of 2d/N: compare the root of the mean square "
        "with one half, not the mean."
    )


@exercise("08.3")
def _other_units(other_units):
    import copy

    import torch

    from fmabs_lite.models import AutoEncoder

    torch.manual_seed(0)
    network = AutoEncoder(width=2, code=3).eval()
    before, x = copy.deepcopy(network), torch.rand(2, 3, 16, 16)
    other_units(network, 4.0)
    with torch.no_grad():
        old, new = (n.bottleneck(n.encoder(x)) for n in (before, network))
        same = torch.allclose(network(x), before(x), atol=1e-5)
    assert torch.allclose(new - new.mean(), 4 * (old - old.mean()), atol=1e-4), (
        "The bottleneck's output is not 4 times what it was; multiply its weight, in place and "
        "under torch.no_grad()."
    )
    assert torch.allclose(new, 4 * old, atol=1e-4), "The bottleneck has a bias too."
    assert same, (
        "The network's output has changed; divide the weight of network.decoder[0][0] by s, and "
        "leave its bias alone."
    )
