"""Checks of the exercises of chapter 04: feature mimicking."""

from fmabs_lite.lesson.exercises.registry import exercise


@exercise("04.1")
def _where(where):
    import torch

    fea_t = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1).expand(3, 2, 4, 5)
    got = where(fea_t, torch.zeros(3, 2, 4, 5))
    assert got.shape == (3, 4, 5), f"The map's shape is (3, 4, 5), not {tuple(got.shape)}."
    assert abs(float(got[0, 0, 0]) - 5) > 1e-6, "Average over the channels; yours is the sum."
    assert abs(float(got[0, 0, 0]) - 2.5) < 1e-6, "Square first, then average: (1² + 2²) / 2."


@exercise("04.2")
def _total(total):
    import torch

    fea_t = torch.zeros(1, 2, 2, 2, requires_grad=True)
    fea_s = torch.ones(1, 2, 2, 2, requires_grad=True)
    loss = total(torch.tensor(3.0), fea_t, fea_s, 0.5)
    value = torch.as_tensor(loss).detach().item()
    assert abs(value - 3.5) < 1e-6, f"3 + 0.5 · 1 is 3.5; yours gives {value:g}."
    loss.backward()
    assert fea_s.grad is not None, "The student's feature needs a gradient."
    assert fea_t.grad is None, "A gradient reaches the teacher; detach its feature."


@exercise("04.3")
def _unit(unit):
    import torch

    feature = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    feature[0, :, 1, 1] = 0
    got = unit(feature)
    assert got.shape == feature.shape, "The shape stays (B, C, h, w)."
    assert not torch.isnan(got).any(), "A zero vector gives 0 / 0; clamp the length from below."
    lengths = got.norm(dim=1)
    assert abs(float(lengths[1].mean()) - 1) < 1e-5, "The length along dim 1 is 1 everywhere."
    assert float(lengths[0, 1, 1]) == 0, "A zero vector stays zero."


@exercise("04.4")
def _freeze(freeze):
    from torch import nn

    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).train()
    got = freeze(network)
    assert got is network, "Return the network itself."
    assert not any(p.requires_grad for p in network.parameters()), "A parameter can still learn."
    assert not network[1].training, "In train mode its batch statistics still move; use eval()."
