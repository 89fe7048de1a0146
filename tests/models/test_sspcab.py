"""SSPCAB: what it sees, its output and its loss by hand, and that it leaves nothing behind."""

import copy
import gc
import math

import pytest
import torch
from torch import nn

from fmabs_lite.detector import Detector
from fmabs_lite.mimicry import Boosted
from fmabs_lite.models import AutoEncoder, Reconstruction
from fmabs_lite.models.draem import Draem
from fmabs_lite.models.sspcab import SSPCAB, WithSSPCAB
from fmabs_lite.training import collect, fit

# At 16² the bottleneck would be 2×2, and every corner outside of it.
DATA = torch.randint(0, 256, (8, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def system(at=("bottleneck",), channels=(8,), weight: float = 0.1) -> WithSSPCAB:
    detector = Reconstruction(AutoEncoder(width=4, code=8))
    return WithSSPCAB(detector, list(at), [SSPCAB(c, reduction=2) for c in channels], weight)


# --- the block -------------------------------------------------------------------------------


@pytest.mark.parametrize("channels, expected", [(1024, 4_461_696), (512, 1_116_736)])
def test_published_numbers_of_parameters(channels, expected):
    with torch.device("meta"):
        assert sum(p.numel() for p in SSPCAB(channels).parameters()) == expected


@pytest.mark.parametrize("kernel, gap", [(1, 0), (1, 1), (1, 3), (2, 1), (3, 2)])
def test_the_size_stays(kernel, gap):
    assert SSPCAB(8, kernel, gap)(torch.rand(2, 8, 5, 9)).shape == (2, 8, 5, 9)


@pytest.mark.parametrize("kernel, gap", [(1, 0), (1, 1), (1, 3), (2, 1), (3, 2)])
def test_nothing_but_four_corners_is_seen(kernel, gap):
    block = SSPCAB(3, kernel, gap).double()
    with torch.no_grad():
        block.excite.weight.zero_()  # else the gate lets every position see the whole image
        for corner in block.corners:
            corner.bias.fill_(10)  # far from where the ReLU is flat
    x = torch.rand(1, 3, 21, 23, dtype=torch.float64, requires_grad=True)
    (seen,) = torch.autograd.grad(block(x)[0, :, 10, 11].sum(), x)
    expected = torch.zeros(21, 23, dtype=torch.bool)
    near, far = slice(-gap - kernel, -gap or None), slice(gap + 1, gap + 1 + kernel)
    for rows in (near, far):
        for columns in (near, far):
            expected[
                slice(10 + rows.start, 10 + (rows.stop or 0)),
                slice(11 + columns.start, 11 + (columns.stop or 0)),
            ] = True
    assert expected.sum() == 4 * kernel**2 and not expected[10, 11]
    assert torch.equal(seen[0].abs().sum(dim=0) > 0, expected)


def test_output_by_hand():
    block = SSPCAB(1, reduction=1)
    with torch.no_grad():
        for corner, weight, bias in zip(block.corners, (1, 2, 3, -4), (0, 0, 0, 0.5), strict=True):
            corner.weight.fill_(weight)
            corner.bias.fill_(bias)
        block.squeeze.weight.fill_(2)
        block.squeeze.bias.fill_(-1)
        block.excite.weight.fill_(0.5)
        block.excite.bias.fill_(0.25)
    x = torch.arange(1.0, 26).view(1, 1, 5, 5)
    # The corners of a position lie two rows and two columns away; outside there are zeros.
    expected = torch.zeros(5, 5)
    for i in range(5):
        for j in range(5):
            total = 0.5
            for weight, di, dj in ((1, -2, -2), (2, -2, 2), (3, 2, -2), (-4, 2, 2)):
                if 0 <= i + di < 5 and 0 <= j + dj < 5:
                    total += weight * float(x[0, 0, i + di, j + dj])
            expected[i, j] = max(0.0, total)
    assert (expected == 0).any() and (expected > 0).any()
    hidden = max(0.0, 2 * float(expected.mean()) - 1)
    gate = 1 / (1 + math.exp(-(0.5 * hidden + 0.25)))
    assert torch.allclose(block(x)[0, 0], gate * expected, rtol=1e-5)


def test_the_gate_is_of_each_image_and_channel():
    block, x = SSPCAB(8, reduction=2), torch.rand(3, 8, 6, 6)
    together, alone = block(x), torch.cat([block(one[None]) for one in x])
    assert torch.allclose(together, alone, atol=1e-6)
    ungated = copy.deepcopy(block)
    with torch.no_grad():
        ungated.excite.weight.zero_()
        ungated.excite.bias.fill_(100)  # a sigmoid of 1
    plain = ungated(x)
    mean = plain.mean(dim=(2, 3))
    hidden = (mean @ block.squeeze.weight.T + block.squeeze.bias).clamp(min=0)
    gate = 1 / (1 + (-(hidden @ block.excite.weight.T + block.excite.bias)).exp())
    assert torch.allclose(together, plain * gate[:, :, None, None], atol=1e-6)
    assert gate.std() > 0


# --- around a detector -----------------------------------------------------------------------


def test_loss_and_gradients_by_hand():
    whole = system(weight=0.3).train()
    plain = copy.deepcopy(whole)
    prepared = whole.prepare(DATA.float() / 255)
    loss = whole.loss(prepared)
    loss.backward()
    network, block = plain.network, plain.blocks[0]
    network.bottleneck._forward_hooks.clear()
    feature = network.bottleneck(network.encoder(prepared.input))
    predicted = block(feature)
    rest = network.decoder(predicted)  # the next layer gets the prediction
    by_hand = (rest - prepared.target).square().mean() + 0.3 * (predicted - feature).square().mean()
    by_hand.backward()
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)
    mine, theirs = dict(whole.named_parameters()), dict(plain.named_parameters())
    assert mine.keys() == theirs.keys()
    assert any("blocks.0.corners" in name for name in mine)
    for name in mine:
        assert torch.allclose(mine[name].grad, theirs[name].grad, rtol=1e-3, atol=1e-7), name


def test_the_weight_is_that_of_the_authors():
    whole = system()
    prepared = whole.prepare(DATA.float() / 255)
    extra = whole.loss(prepared) - whole.detector.loss(prepared)
    assert whole.weight == 0.1 and extra > 0
    whole.weight = 1.0
    assert (whole.loss(prepared) - whole.detector.loss(prepared)).item() == pytest.approx(
        10 * extra.item(), rel=1e-3
    )


def test_two_layers_and_the_second_sees_what_the_first_foretold():
    whole = system(("encoder", "bottleneck"), (16, 8))
    seen = []
    whole.network.bottleneck.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    prepared = whole.prepare(DATA.float() / 255)
    loss = whole.loss(prepared)
    network = copy.deepcopy(whole.detector).network
    for tap in (network.encoder, network.bottleneck):
        tap._forward_hooks.clear()
    with torch.no_grad():
        one = network.encoder(prepared.input)
        first = whole.blocks[0](one)
        two = nn.Module.__call__(network.bottleneck, first)
        second = whole.blocks[1](two)
        loss_o = (network.decoder(second) - prepared.target).square().mean()
    assert torch.allclose(seen[0], first, atol=1e-6)
    expected = loss_o + 0.1 * ((first - one).square().mean() + (second - two).square().mean())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_score_comes_from_what_was_predicted():
    whole = system().eval()
    plain = copy.deepcopy(whole.detector)
    plain.network.bottleneck._forward_hooks.clear()
    prepared = whole.prepare(DATA.float() / 255)
    with torch.no_grad():
        parts, other = whole.score(prepared), plain.score(prepared)
        network = plain.network
        given = whole.blocks[0](network.bottleneck(network.encoder(prepared.input)))
        expected = (network.decoder(given) - prepared.target).square().mean(dim=1)
    assert parts.keys() == other.keys() and not torch.allclose(parts["S_o"], other["S_o"])
    assert torch.allclose(parts["map_o"], expected, atol=1e-6)
    assert collect(whole, DATA)["S_o"] == pytest.approx(parts["S_o"].numpy(), rel=1e-4)


def test_all_of_it_is_trained_and_kept():
    whole = system()
    before = {name: p.detach().clone() for name, p in whole.named_parameters()}
    fit(whole, DATA, steps=3, batch_size=4, lr=1e-2)
    still = {name for name, p in whole.named_parameters() if torch.equal(p, before[name])}
    assert not still, still
    other = system()
    other.load_state_dict(whole.state_dict())
    prepared = whole.eval().prepare(DATA.float() / 255)
    expected = whole.score(prepared)["S_o"]
    assert torch.allclose(other.eval().score(prepared)["S_o"], expected, rtol=1e-5)


def test_no_feature_outlives_its_step():
    whole = system().train()
    prepared = whole.prepare(DATA.float() / 255)

    def held() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    whole.score(prepared)
    before = held()
    for _ in range(5):
        whole.score(prepared)
        whole.loss(prepared)
    assert held() == before
    # A tensor with a history cannot be copied, so none may be left.
    twin = copy.deepcopy(whole)
    assert twin.loss(prepared).item() == pytest.approx(whole.loss(prepared).item(), rel=1e-5)
    with torch.no_grad():
        twin.blocks[0].excite.bias.fill_(-100)  # the copy has hooks and blocks of its own
    assert twin.loss(prepared).item() != pytest.approx(whole.loss(prepared).item(), rel=1e-3)


def test_a_loss_that_fails_leaves_nothing_open():
    whole = system().eval()
    prepared = whole.prepare(DATA.float() / 255)
    expected = whole.loss(prepared).item()

    def fail(*_):
        raise KeyError("full memory, say")

    handle = whole.network.decoder.register_forward_pre_hook(fail)
    with pytest.raises(KeyError):
        whole.loss(prepared)
    handle.remove()
    assert whole._errors is None
    assert whole.loss(prepared).item() == expected


class Two(nn.Module):
    """A layer that returns a tuple, as a stranger's may."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.inner(x), "and a word"


class Stranger(nn.Module):
    def __init__(self):
        super().__init__()
        self.two = Two()

    def forward(self, x):
        x, word = self.two(x)
        assert word == "and a word"
        return x


def test_a_layer_may_return_a_tuple():
    whole = WithSSPCAB(Reconstruction(Stranger()), ["two"], [SSPCAB(3)])
    x = torch.rand(2, 3, 8, 8)
    assert torch.allclose(whole.network(x), whole.blocks[0](whole.network.two.inner(x)))


def test_what_does_not_fit_is_refused_before_anything_is_hooked():
    detector = Reconstruction(AutoEncoder(width=4, code=8))
    with pytest.raises(ValueError, match=r"with 1 block\(s\); give a list of layers"):
        WithSSPCAB(detector, ["encoder", "bottleneck"], [SSPCAB(4)])
    with pytest.raises(ValueError, match="'bottelneck' names no layer.*bottleneck"):
        WithSSPCAB(detector, ["bottleneck", "bottelneck"], [SSPCAB(4), SSPCAB(4)])
    assert not any(m._forward_hooks for m in detector.network.modules())


def test_in_both_networks_of_draem():
    textures = torch.randint(0, 256, (3, 3, 32, 32)).byte()
    detector: Detector = Draem(2, 2, textures=textures, window=5)
    at = ["repairer.bottleneck", "judge.bottleneck"]
    whole = WithSSPCAB(detector, at, [SSPCAB(16), SSPCAB(16)])
    data = torch.randint(0, 256, (6, 3, 32, 32)).byte()
    losses = fit(whole, data, steps=3, batch_size=4)
    assert all(math.isfinite(loss) for loss in losses)
    assert not any("textures" in name for name in whole.state_dict())
    teacher = copy.deepcopy(Draem(2, 2).network)
    boosted = Boosted(Draem(2, 2, textures=textures, window=5), teacher, at=at)
    parts = collect(boosted, data)  # the rival's hooks are on the rival's network only
    assert parts["S_o"].shape == parts["S_fea"].shape == (6,)


def test_a_name_in_place_of_a_list_is_refused():
    detector = Reconstruction(AutoEncoder(width=4, code=8))
    with pytest.raises(ValueError, match="at is 'bottleneck'.*give a list"):
        WithSSPCAB(detector, "bottleneck", [SSPCAB(8)])


def test_a_layer_that_never_runs_is_named_in_the_loss():
    detector = Reconstruction(AutoEncoder(width=4, code=8))
    detector.network.spare = torch.nn.Conv2d(4, 8, 1)
    system = WithSSPCAB(detector, ["spare"], [SSPCAB(8)])
    with pytest.raises(ValueError, match="Of 1 layers with a block only 0 ran"):
        system.loss(system.prepare(torch.rand(2, 3, 16, 16)))


def test_a_relu_that_works_in_place_may_follow():
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.ReLU(inplace=True))
    system = WithSSPCAB(Reconstruction(layers), ["0"], [SSPCAB(3)])
    system.loss(system.prepare(torch.rand(2, 3, 8, 8))).backward()
    assert layers[0].weight.grad.abs().sum() > 0
