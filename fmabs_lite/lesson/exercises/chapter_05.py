"""Checks of the exercises of chapter 05: channel attention."""

from fmabs_lite.lesson.exercises.registry import exercise


@exercise("05.1")
def _folded(folded):
    import torch
    from torch.nn.functional import conv_transpose2d

    draw = torch.Generator().manual_seed(0)
    weight, m = torch.randn(3, 3, 4, 4, generator=draw), torch.rand(3, generator=draw)
    fea_s = torch.randn(2, 3, 5, 5, generator=draw)
    before = weight.clone()
    got = folded(weight, m)
    assert torch.equal(weight, before), "Return a new weight; yours changes the one it was given."
    assert got.shape == weight.shape, f"The shape stays (3, 3, 4, 4); yours is {tuple(got.shape)}."
    assert not torch.allclose(got, weight * m[:, None, None], atol=1e-6), (
        "The first dimension of a ConvTranspose2d's weight holds the channels that come in."
    )
    wanted = conv_transpose2d(fea_s * m[:, None, None], weight)
    assert torch.allclose(conv_transpose2d(fea_s, got), wanted, atol=1e-5), (
        "Not what the layer gives for Fea_S ⊙ M; multiply each channel that comes in by m."
    )


@exercise("05.2")
def _both_pools(both_pools):
    import torch

    from fmabs_lite.attention import ChannelAttention

    module = ChannelAttention(2, 1)
    with torch.no_grad():
        module.squeeze.weight.copy_(torch.tensor([[1.0, 0.5], [-1.0, 0.0]]))
        module.excite.weight.copy_(torch.tensor([[1.0, 1.0], [-1.0, 1.0]]))
        for layer in (module.squeeze, module.excite):
            layer.bias.fill_(0.1)
        fea_i = torch.tensor([[[[0.0, 1.0]], [[0.2, 0.4]]]])
        got = both_pools(module, fea_i)
        alone = module(fea_i)
    assert got.shape == (1, 2, 1, 1), f"M has the shape (1, 2, 1, 1), not {tuple(got.shape)}."
    got = got.flatten().tolist()
    assert abs(got[0] - float(alone[0, 0])) > 1e-5, "The maximum over places is missing."
    # hidden 0.75 and 0 from the means 0.5 and 0.3, 1.3 and 0 from the maxima 1 and 0.4
    wanted = torch.tensor([0.75 + 1.3 + 0.2, -0.75 - 1.3 + 0.2]).sigmoid().tolist()
    assert max(got) < 1 and min(got) > 0, "Add before the sigmoid, so that M stays in (0, 1)."
    assert abs(got[0] - wanted[0]) < 1e-5 and abs(got[1] - wanted[1]) < 1e-5, (
        "Send each pool through squeeze, ReLU and excite, add the two, and take the sigmoid last."
    )


@exercise("05.3")
def _at_rest(at_rest):
    import torch

    from fmabs_lite.attention import ChannelAttention

    module = ChannelAttention(8, 2)
    with torch.no_grad():
        module.squeeze.bias.copy_(torch.tensor([1.0, -1.0, 0.5, -2.0]))
        wanted = module(torch.zeros(1, 8, 1, 1)).flatten()
    calls = []
    hook = module.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        got = at_rest(module)
    hook.remove()
    assert not calls, "Use the weights and biases; yours runs the module."
    assert got.shape == (8,), f"One number a channel, (8,), not {tuple(got.shape)}."
    with torch.no_grad():
        no_relu = (module.excite.weight @ module.squeeze.bias + module.excite.bias).sigmoid()
    assert not torch.allclose(got, no_relu, atol=1e-5), "The ReLU cuts off the negative biases."
    assert torch.allclose(got, wanted, atol=1e-5), (
        "Of the first layer only the bias is left; then the ReLU, the second layer, the sigmoid."
    )
