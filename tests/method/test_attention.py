"""Attention modules: M by hand, what it can and cannot tell apart, and how it can be born dead."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fmabs_lite.attention import ChannelAttention, SpatialAttention, SpatioChannelAttention

FEW = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 2**31)


def sigmoid(*values: float) -> Tensor:
    return 1 / (1 + torch.exp(-torch.tensor(values)))


def fill(module: nn.Module, **values: list) -> nn.Module:
    """Set parameters by hand; `squeeze_weight` is `squeeze.weight`."""
    parameters = dict(module.named_parameters())
    assert {name.replace("_", ".") for name in values} == set(parameters)
    for name, value in values.items():
        parameter = parameters[name.replace("_", ".")]
        parameter.data = torch.tensor(value).reshape(parameter.shape)
    return module


def fea_i(seed: int, channels: int = 4, side: int = 3) -> Tensor:
    return torch.rand(2, channels, side, side + 1, generator=torch.Generator().manual_seed(seed))


def all_three(seed: int = 0, channels: int = 4) -> list[nn.Module]:
    torch.manual_seed(seed)
    return [
        ChannelAttention(channels, reduction=2),
        SpatialAttention(3),
        SpatioChannelAttention(channels, reduction=2),
        SpatioChannelAttention(channels, reduction=2, kernel_size=3),
    ]


# ---- by hand -----------------------------------------------------------------------------------


def test_channel_attention_by_hand():
    module = fill(
        ChannelAttention(2, reduction=2),
        squeeze_weight=[1.0, -1.0], squeeze_bias=[0.5],
        excite_weight=[2.0, -3.0], excite_bias=[0.1, 0.2],
    )  # fmt: skip
    given = torch.tensor([
        [[[1.0, 3.0]], [[0.0, 1.0]]],  # means 2 and 0.5: hidden 2 − 0.5 + 0.5 = 2
        [[[0.0, 0.0]], [[1.0, 5.0]]],  # means 0 and 3: hidden −2.5, cut to 0
    ])  # fmt: skip
    m = module(given)
    assert m.shape == (2, 2, 1, 1)
    assert torch.allclose(m.flatten(), sigmoid(4.1, -5.8, 0.1, 0.2))


def test_spatial_attention_by_hand():
    module = fill(SpatialAttention(1), conv_weight=[2.0, -1.0], conv_bias=[0.25])
    given = torch.tensor([[[[1.0, 0.0]], [[3.0, 0.5]]]])  # means 2 and 0.25, maxima 3 and 0.5
    m = module(given)
    assert m.shape == (1, 1, 1, 2)
    assert torch.allclose(m.flatten(), sigmoid(4 - 3 + 0.25, 0.5 - 0.5 + 0.25))


def test_spatial_attention_sees_nothing_beyond_the_border():
    module = fill(SpatialAttention(3), conv_weight=[1.0] * 9 + [0.0] * 9, conv_bias=[0.0])
    m = module(torch.full((1, 5, 3, 3), 0.1))[0, 0]
    assert torch.allclose(m[1], sigmoid(0.6, 0.9, 0.6))  # 6, 9 and 6 places of nine are inside
    assert torch.allclose(m[0], sigmoid(0.4, 0.6, 0.4))


def test_spatio_channel_attention_by_hand():
    module = fill(
        SpatioChannelAttention(2, reduction=2),
        encode_weight=[1.0, -1.0], encode_bias=[0.5],
        decode_weight=[2.0, -3.0], decode_bias=[0.1, 0.2],
    )  # fmt: skip
    m = module(torch.tensor([[[[2.0, 0.0]], [[0.5, 3.0]]]]))  # hidden 2 and, cut, 0
    assert m.shape == (1, 2, 1, 2)
    assert torch.allclose(m.flatten(), sigmoid(4.1, 0.1, -5.8, 0.2))


@pytest.mark.parametrize(
    "module, numbers",
    [
        (ChannelAttention(512), 512 * 32 + 32 + 32 * 512 + 512),
        (SpatioChannelAttention(512), 512 * 64 + 64 + 64 * 512 + 512),
        (SpatioChannelAttention(512, kernel_size=3), 9 * 2 * 512 * 64 + 64 + 512),
        (SpatialAttention(), 2 * 7 * 7 + 1),
    ],
)
def test_parameter_counts(module, numbers):
    assert sum(p.numel() for p in module.parameters()) == numbers
    assert numbers in (33_312, 66_112, 590_400, 99)


# ---- invariants --------------------------------------------------------------------------------


@FEW
@given(SEEDS, st.integers(1, 9), st.integers(1, 6), st.sampled_from([1, 3, 5]), st.data())
def test_a_mask_fits_its_feature_and_lies_between_zero_and_one(seed, channels, side, k, data):
    r = data.draw(st.integers(1, channels))
    torch.manual_seed(seed)
    feature = fea_i(seed, channels, side)
    b, c, h, w = feature.shape
    for module, shape in [
        (ChannelAttention(channels, r), (b, c, 1, 1)),
        (SpatialAttention(k), (b, 1, h, w)),
        (SpatioChannelAttention(channels, r, k), (b, c, h, w)),
    ]:
        m = module(feature)
        assert m.shape == shape and (feature * m).shape == feature.shape
        assert 0 < m.min() and m.max() < 1


@FEW
@given(SEEDS)
def test_what_each_module_cannot_tell_apart(seed):
    ca, sa, sca, sca3 = all_three(seed)
    feature = fea_i(seed)
    order = torch.Generator().manual_seed(seed)
    places, channels = torch.randperm(12, generator=order), torch.randperm(4, generator=order)

    def moved(x: Tensor) -> Tensor:
        return x.flatten(2)[:, :, places].view_as(x)

    assert torch.allclose(ca(moved(feature)), ca(feature), atol=1e-6)
    assert torch.allclose(sa(feature[:, channels]), sa(feature), atol=1e-6)
    assert torch.allclose(sca(moved(feature)), moved(sca(feature)), atol=1e-6)


def test_what_each_module_can_tell_apart():
    ca, sa, sca, sca3 = all_three()
    feature = fea_i(1)
    assert not torch.allclose(ca(feature.flip(1)), ca(feature), atol=1e-4)
    assert not torch.allclose(sa(feature.flip(2)), sa(feature), atol=1e-4)
    assert not torch.allclose(sca(feature.flip(1)), sca(feature), atol=1e-4)
    # A larger kernel sees what lies around a place: moving the places is no longer all the same.
    assert torch.allclose(sca(feature.flip(3)).flip(3), sca(feature), atol=1e-6)
    assert not torch.allclose(sca3(feature.flip(3)).flip(3), sca3(feature), atol=1e-4)


def test_images_of_a_batch_do_not_mix():
    feature = fea_i(2)
    for module in all_three():
        assert torch.allclose(module(feature)[1:], module(feature[1:]), atol=1e-6)


# ---- where there is nothing to see ---------------------------------------------------------------


def test_perfect_mimicry_leaves_one_half_everywhere_without_biases():
    for module in all_three():
        for name, parameter in module.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
        assert (module(torch.zeros(2, 4, 5, 5)) == 0.5).all()


def test_perfect_mimicry_leaves_a_learned_constant_per_channel_with_biases():
    ca, sa, sca, _ = all_three()
    for module in (ca, sa, sca):
        m = module(torch.zeros(2, 4, 5, 5)).expand(2, 4, 5, 5)
        assert torch.equal(m, m[:1, :, :1, :1].expand_as(m))
        assert not torch.allclose(m, torch.tensor(0.5), atol=1e-3)


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ChannelAttention, SpatioChannelAttention])
@pytest.mark.parametrize("reduction", [0, -1, 9])
def test_a_reduction_that_leaves_no_hidden_unit_is_refused(kind, reduction):
    with pytest.raises(ValueError, match=f"reduction={reduction} with channels=8.*from 1 to 8"):
        kind(8, reduction=reduction)
    assert kind(8, reduction=8)(fea_i(0, channels=8)).shape[1] == 8


@pytest.mark.parametrize("build", [SpatialAttention, lambda k: SpatioChannelAttention(8, 8, k)])
@pytest.mark.parametrize("k", [0, 2, 4, -1])
def test_a_kernel_without_a_middle_is_refused(build, k):
    with pytest.raises(ValueError, match=f"kernel_size={k}.*Choose 1, 3, 5 or 7"):
        build(k)


# ---- born dead ---------------------------------------------------------------------------------


def dead(build, seeds: int) -> float:
    """Share of first weights whose first layer gets no gradient, for an untrained pair's Fea_I."""
    count = 0
    for seed in range(seeds):
        torch.manual_seed(seed)
        module = build()
        first = next(module.parameters())
        channels = first.shape[1]
        feature = (torch.randn(4, channels, 4, 4) - torch.randn(4, channels, 4, 4)).abs()
        fea_s = torch.randn(4, channels, 4, 4)
        ((module(feature) * fea_s) ** 2).mean().backward()
        count += not first.grad.any()
    return count / seeds


def test_channel_attention_can_be_born_dead_where_it_is_narrow():
    """With one hidden unit four of ten first weights learn nothing, with two one or two of ten."""
    assert 0.3 < dead(lambda: ChannelAttention(8, reduction=8), 100) < 0.6
    assert 0.3 < dead(lambda: ChannelAttention(16, reduction=16), 100) < 0.6
    assert 0.05 < dead(lambda: ChannelAttention(32, reduction=16), 100) < 0.35
    assert dead(lambda: ChannelAttention(64, reduction=16), 100) < 0.15
    assert dead(lambda: ChannelAttention(128, reduction=16), 100) < 0.03


def test_spatio_channel_attention_rarely_is_because_its_places_differ():
    assert dead(lambda: SpatioChannelAttention(8, reduction=8), 100) < 0.1
    assert dead(lambda: SpatioChannelAttention(16, reduction=8), 100) < 0.02
    assert dead(lambda: SpatioChannelAttention(64, reduction=8), 50) == 0
