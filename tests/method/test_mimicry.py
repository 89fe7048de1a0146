"""Boosted: every equation by hand, and what the hooks must and must not do (chapters 04 to 08)."""

import copy

import numpy as np
import pytest
import torch
from failing import Failing, Killed
from torch import Tensor, nn

import fmabs_lite.training as training
from fmabs_lite.attention import ChannelAttention, SpatialAttention, SpatioChannelAttention
from fmabs_lite.mimicry import Boosted, inconsistency, mimic_loss, refined, summed
from fmabs_lite.models import AutoEncoder, Reconstruction
from fmabs_lite.training import fit

CODE = 8
ATTENTION = {
    "none": lambda: None,
    "CA": lambda: ChannelAttention(CODE, reduction=2),
    "SA": lambda: SpatialAttention(3),
    "SCA": lambda: SpatioChannelAttention(CODE, reduction=2),
}
IMAGES = torch.randint(0, 256, (20, 3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()


def network(seed: int, code: int = CODE) -> AutoEncoder:
    torch.manual_seed(seed)
    return AutoEncoder(width=4, code=code)


def attention(kind: str = "SCA", seed: int = 5) -> nn.Module | None:
    torch.manual_seed(seed)
    return ATTENTION[kind]()


def boosted(**options) -> Boosted:
    return Boosted(Reconstruction(network(1)), network(0), **options)


@pytest.fixture
def batch() -> Tensor:
    return torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))


def loss(system: Boosted, batch: Tensor) -> Tensor:
    return system.loss(system.prepare(batch))


def score(system: Boosted, batch: Tensor) -> dict[str, Tensor]:
    return system.score(system.prepare(batch))


def hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def gradients(*modules: nn.Module | None) -> dict[str, Tensor]:
    return {
        f"{place}.{name}": parameter.grad
        for place, module in enumerate(modules)
        if module is not None
        for name, parameter in module.named_parameters()
    }


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], atol: float = 1e-6) -> None:
    assert one.keys() == other.keys() and one
    for name in one:
        assert torch.allclose(one[name], other[name], atol=atol), name


# ---- the equations -----------------------------------------------------------------------------


def test_inconsistency_and_mimic_loss_by_hand():
    fea_t, fea_s = torch.tensor([[[[1.0, -2.0]]]]), torch.tensor([[[[4.0, -1.0]]]])
    assert inconsistency(fea_t, fea_s).flatten().tolist() == [3.0, 1.0]
    assert mimic_loss(fea_t, fea_s).item() == 5.0


def test_refined_by_hand():
    fea_s, m = torch.tensor([[[[4.0, -2.0]]]]), torch.tensor([[[[0.5, 0.25]]]])
    assert refined(fea_s, m).flatten().tolist() == [2.0, -0.5]
    assert refined(fea_s, m, "residual").flatten().tolist() == [6.0, -2.5]


def written_out(student, fea_t, mask, batch, weight=1.0, refine="product", detach=False):
    """Eq. 1 to 4 as a page has them, without a hook."""
    fea_s = student.bottleneck(student.encoder(batch))
    fea_r = fea_s
    if mask is not None:
        fea_i = (fea_t - (fea_s.detach() if detach else fea_s)).abs()
        m = mask(fea_i)
        fea_r = fea_s * m if refine == "product" else fea_s + fea_s * m
    loss_o = ((student.decoder(fea_r) - batch) ** 2).mean()
    return loss_o + weight * ((fea_t - fea_s) ** 2).mean()


@pytest.mark.parametrize("kind", ATTENTION)
@pytest.mark.parametrize(
    "options",
    [{}, {"weight": 0.3, "refine": "residual"}, {"detach": True}, {"weight": 0.0}],
    ids=["product", "residual", "detach", "no L_fea"],
)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_loss_and_gradients_equal_the_equations_written_out(batch, kind, options, mode):
    system = getattr(boosted(attention=attention(kind), **options), mode)()
    student, teacher, mask = getattr(network(1), mode)(), network(0).eval(), attention(kind)
    with torch.no_grad():
        fea_t = teacher.bottleneck(teacher.encoder(batch))
    by_hand = written_out(student, fea_t, mask, batch, **options)
    by_hand.backward()
    got = loss(system, batch)
    got.backward()
    assert torch.allclose(got, by_hand, atol=1e-6)
    own = system.attention[0] if system.attention else None
    assert_close(gradients(system.network, own), gradients(student, mask))


def test_detach_removes_the_route_through_the_inconsistency_and_no_other(batch):
    found = {}
    for detach in (False, True):
        system = boosted(attention=attention(), detach=detach, weight=0.7).eval()
        loss(system, batch).backward()
        found[detach] = gradients(system.network, system.attention)
    # The route by itself: the student's feature is held fixed everywhere but in Fea_I.
    student, teacher, mask = network(1).eval(), network(0).eval(), attention()
    fea_s = student.bottleneck(student.encoder(batch))
    fea_t = teacher.bottleneck(teacher.encoder(batch)).detach()
    fea_r = fea_s.detach() * mask((fea_t - fea_s).abs())
    ((student.decoder(fea_r) - batch) ** 2).mean().backward()
    route = gradients(student, nn.ModuleList([mask]))
    changed = 0
    for name, full in found[False].items():
        upstream = name.startswith(("0.encoder", "0.bottleneck"))
        expected = found[True][name] + route[name] * upstream
        assert torch.allclose(full, expected, atol=1e-6), name
        changed += not torch.allclose(full, found[True][name], atol=1e-7)
    assert changed > 0


def test_gradients_reach_student_and_attention_and_never_the_teacher(batch):
    teacher = network(0)
    system = Boosted(Reconstruction(network(1)), teacher, attention=attention()).train()
    loss(system, batch).backward()
    assert all(p.grad is not None for p in system.parameters())
    assert any(p.grad.any() for p in system.attention.parameters())
    assert all(p.grad is None and p.requires_grad for p in teacher.parameters())
    assert all(p.grad is None and not p.requires_grad for p in system.teacher.parameters())


@pytest.mark.parametrize("kind", ["CA", "SA", "SCA"])
def test_the_attention_is_trained_and_kept(kind):
    system = boosted(attention=attention(kind))
    own = {id(p) for p in system.parameters()}
    assert all(id(p) in own for p in system.attention.parameters())
    assert any(key.startswith("attention.0.") for key in system.state_dict())
    before = copy.deepcopy(system.attention.state_dict())
    fit(system, IMAGES, steps=1, batch_size=4, lr=1e-2)
    after = system.attention.state_dict()
    assert all(not torch.equal(after[name], value) for name, value in before.items())


# ---- the score ---------------------------------------------------------------------------------


def test_scores_add_to_the_detectors_own(batch):
    system = boosted().eval()
    parts = score(system, batch)
    alone = Reconstruction(network(1)).eval()
    plain = alone.score(alone.prepare(batch))
    assert set(parts) == {"S_o", "map_o", "S_fea", "map_fea"}
    assert torch.equal(parts["S_o"], plain["S_o"]) and torch.equal(parts["map_o"], plain["map_o"])
    student, teacher = network(1).eval(), network(0).eval()
    fea_s = student.bottleneck(student.encoder(batch))
    fea_t = teacher.bottleneck(teacher.encoder(batch))
    assert torch.allclose(parts["S_fea"], ((fea_t - fea_s) ** 2).mean(dim=(1, 2, 3)))
    assert parts["map_fea"].shape == (2, 2, 3)
    assert torch.allclose(parts["map_fea"], ((fea_t - fea_s) ** 2).mean(dim=1))


def test_with_attention_the_score_is_of_the_refined_student(batch):
    system = boosted(attention=attention()).eval()
    student, teacher, mask = network(1).eval(), network(0).eval(), attention()
    fea_s = student.bottleneck(student.encoder(batch))
    fea_t = teacher.bottleneck(teacher.encoder(batch))
    error = (student.decoder(fea_s * mask((fea_t - fea_s).abs())) - batch) ** 2
    parts = score(system, batch)
    assert torch.allclose(parts["map_o"], error.mean(dim=1), atol=1e-6)
    # S_fea compares Fea_S, not Fea_R.
    assert torch.allclose(parts["S_fea"], ((fea_t - fea_s) ** 2).mean(dim=(1, 2, 3)), atol=1e-6)


def test_a_student_equal_to_its_teacher_has_no_inconsistency(batch):
    twin = Boosted(Reconstruction(network(0)), network(0)).eval()
    assert score(twin, batch)["S_fea"].abs().max() == 0


def parts_of(n: int, seed: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    sizes = {"S_o": (n,), "S_fea": (n,), "map_o": (n, 4, 6), "map_fea": (n, 2, 3)}
    return {name: draw.random(size) for name, size in sizes.items()}


def test_total_by_hand():
    seen = {"S_o": np.array([3.0, 5.0]), "S_fea": np.array([10.0, 40.0])}
    known = {"S_o": np.array([0.0, 2.0]), "S_fea": np.array([10.0, 30.0])}  # 1 ± 1 and 20 ± 10
    total = boosted(score_weight=0.25).total(seen, known)
    assert set(total) == {"S_total"}
    assert total["S_total"] == pytest.approx([0.25 * -1 + 0.75 * 2, 0.25 * 2 + 0.75 * 4])


def test_total_of_maps_enlarges_the_features_and_scales_both_by_the_training_images():
    seen, known = parts_of(2, 0), parts_of(3, 1)
    seen["map_fea"] = np.full((2, 2, 3), 7.0)  # constant: stays 7 at any size
    total = boosted(score_weight=0.5).total(seen, known)["map_total"]
    fea = (7 - known["map_fea"].mean()) / known["map_fea"].std()
    own = (seen["map_o"] - known["map_o"].mean()) / known["map_o"].std()
    assert total.shape == (2, 4, 6) and np.allclose(total, 0.5 * fea + 0.5 * own, atol=1e-6)


def test_without_a_score_weight_the_detectors_own_score_stays():
    seen = parts_of(2, 0)
    total = boosted().total(seen, parts_of(3, 1))
    assert total["S_total"] is seen["S_o"] and total["map_total"] is seen["map_o"]
    assert "map_total" not in boosted().total({"S_o": seen["S_o"], "S_fea": seen["S_fea"]}, {})


def test_weight_zero_and_one_of_the_score_leave_one_score():
    seen, known = parts_of(2, 0), parts_of(3, 1)
    only_o = boosted(score_weight=0).total(seen, known)["S_total"]
    assert only_o == pytest.approx((seen["S_o"] - known["S_o"].mean()) / known["S_o"].std())
    only_fea = boosted(score_weight=1).total(seen, known)["S_total"]
    expected = (seen["S_fea"] - known["S_fea"].mean()) / known["S_fea"].std()
    assert only_fea == pytest.approx(expected)


# ---- networks of every shape -------------------------------------------------------------------


class Trunk(nn.Module):
    """Two layers of other channels and resolutions, as strangers' networks have them."""

    def __init__(self):
        super().__init__()
        self.fine = nn.Conv2d(3, 4, 3, padding=1)
        self.unused = nn.Conv2d(3, 4, 1)
        self.coarse = nn.Conv2d(4, 6, 2, stride=2)
        self.back = nn.ConvTranspose2d(6, 3, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.back(self.coarse(self.fine(x).tanh()))


def made(kind, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return kind()


def pair(kind, detector=Reconstruction, **options) -> Boosted:
    return Boosted(detector(made(kind, 1)), made(kind, 0), **options)


def two_masks() -> list[nn.Module]:
    torch.manual_seed(5)
    return [SpatioChannelAttention(4, reduction=2), ChannelAttention(6, reduction=2)]


@pytest.mark.parametrize("attend", [False, True])
def test_two_layers_are_summed(batch, attend):
    masks = two_masks() if attend else None
    system = pair(Trunk, at=["fine", "coarse"], attention=masks, weight=0.5)
    student, teacher = made(Trunk, 1), made(Trunk, 0)
    fine_t = teacher.fine(batch)
    coarse_t = teacher.coarse(fine_t.tanh())
    fine_s = student.fine(batch)
    m = two_masks()[0]((fine_t - fine_s).abs()) if attend else 1
    coarse_s = student.coarse((fine_s * m).tanh())
    m = two_masks()[1]((coarse_t - coarse_s).abs()) if attend else 1
    error = (student.back(coarse_s * m) - batch) ** 2
    fine, coarse = (fine_t - fine_s) ** 2, (coarse_t - coarse_s) ** 2
    expected = error.mean() + 0.5 * (fine.mean() + coarse.mean())
    assert torch.allclose(loss(system, batch), expected, atol=1e-6)
    parts = score(system, batch)
    each = fine.mean(dim=(1, 2, 3)) + coarse.mean(dim=(1, 2, 3))
    assert torch.allclose(parts["S_fea"], each, atol=1e-6)
    larger = nn.functional.interpolate(
        coarse.mean(dim=1, keepdim=True), (16, 24), mode="bilinear", align_corners=False
    )[:, 0]
    assert torch.allclose(parts["map_fea"], fine.mean(dim=1) + larger, atol=1e-6)


def test_the_order_of_the_layers_does_not_matter_without_attention(batch):
    one, other = pair(Trunk, at=["fine", "coarse"]), pair(Trunk, at=["coarse", "fine"])
    assert torch.allclose(loss(one, batch), loss(other, batch), atol=1e-6)


def test_summed_keeps_constants_at_any_size():
    got = summed([torch.full((1, 2, 2), 1.0), torch.full((1, 6, 4), 10.0)])
    assert got.shape == (1, 6, 4) and torch.allclose(got, torch.tensor(11.0))


class Halves(nn.Module):
    """A layer that returns more than a tensor: a number, the feature, and a second tensor."""

    def __init__(self, kind):
        super().__init__()
        self.conv, self.kind = nn.Conv2d(3, 4, 1), kind

    def forward(self, x: Tensor):
        return self.kind([7, self.conv(x), 2 * x])


def named(parts) -> tuple:
    from fmabs_lite.detector import Prepared

    return Prepared(*parts[1:])


class Several(nn.Module):
    kind = tuple

    def __init__(self):
        super().__init__()
        self.tap, self.head, self.got = Halves(type(self).kind), nn.Conv2d(4, 3, 1), None

    def forward(self, x: Tensor) -> Tensor:
        self.got = self.tap(x)
        return self.head(self.got[-2])


@pytest.mark.parametrize("attend", [False, True])
@pytest.mark.parametrize("kind", [tuple, list, named])
def test_of_several_outputs_the_first_tensor_is_refined_and_the_rest_left(batch, kind, attend):
    build = type("Several", (Several,), {"kind": staticmethod(kind)})
    mask = SpatialAttention(1) if attend else None
    system = pair(build, at="tap", attention=mask)
    student, teacher = made(build, 1), made(build, 0)
    fea_s, fea_t = student.tap.conv(batch), teacher.tap.conv(batch)
    fea_r = fea_s * mask((fea_t - fea_s).abs()) if attend else fea_s
    error = (student.head(fea_r) - batch) ** 2
    expected = error.mean() + ((fea_t - fea_s) ** 2).mean()
    assert torch.allclose(loss(system, batch), expected, atol=1e-6)
    got = system.network.got
    assert type(got) is type(kind([1, 2, 3]))
    assert torch.equal(got[-1], 2 * batch) and (len(got) == 2 or got[0] == 7)
    assert not hasattr(got, "_fields") or got.input is got[0]


class Twice(nn.Module):
    """One layer that is run two times, on other resolutions."""

    def __init__(self):
        super().__init__()
        self.block = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        half = self.block(x)[:, :, ::2, ::2]
        return nn.functional.interpolate(self.block(half.tanh()), scale_factor=2)


@pytest.mark.parametrize("attend", [False, True])
def test_the_second_call_of_a_layer_meets_the_teachers_second_call(batch, attend):
    def run(net: Twice, others=None):
        features = []

        def tap(x: Tensor) -> Tensor:
            features.append(net.block(x))
            fea_r = features[-1]
            if others and attend:
                fea_r = fea_r * mask((others[len(features) - 1] - fea_r).abs())
            return fea_r

        out = tap(tap(batch)[:, :, ::2, ::2].tanh())
        return nn.functional.interpolate(out, scale_factor=2), features

    torch.manual_seed(5)
    mask = SpatioChannelAttention(3, reduction=1)
    system = pair(Twice, at="block", attention=copy.deepcopy(mask) if attend else None)
    _, theirs = run(made(Twice, 0))
    out, own = run(made(Twice, 1), theirs)
    first, second = (((t - s) ** 2).mean() for t, s in zip(theirs, own, strict=True))
    for _ in range(2):  # also when the number of calls is known already
        got = loss(system, batch)
        assert torch.allclose(got, ((out - batch) ** 2).mean() + first + second, atol=1e-6)
    assert score(system, batch)["map_fea"].shape == (2, 16, 24)


def test_a_network_may_be_called_twice_in_one_loss(batch):
    class BothWays(Reconstruction):
        def loss(self, prepared):
            there = self.network(prepared.input) - prepared.target
            back = self.network(prepared.input.flip(-1)) - prepared.target.flip(-1)
            return (there**2).mean() + (back**2).mean()

    system = pair(Trunk, BothWays, at="coarse", attention=SpatialAttention(1)).eval()
    alone = pair(Trunk, at="coarse", attention=system.attention[0]).eval()
    expected = loss(alone, batch) + loss(alone, batch.flip(-1))
    assert torch.allclose(loss(system, batch), expected, atol=1e-6)


def test_a_network_may_be_called_with_keywords(batch):
    class Keyed(Trunk):
        def forward(self, *, image: Tensor, gain: float) -> Tensor:
            return super().forward(gain * image)

    class ByKeyword(Reconstruction):
        def loss(self, prepared):
            return (self.network(image=prepared.input, gain=0.5) - prepared.target).pow(2).mean()

    system = pair(Keyed, ByKeyword, at="coarse")
    student, teacher = made(Keyed, 1), made(Keyed, 0)
    fea_s, fea_t = (net.coarse(net.fine(0.5 * batch).tanh()) for net in (student, teacher))
    expected = ((student.back(fea_s) - batch) ** 2).mean() + ((fea_t - fea_s) ** 2).mean()
    assert torch.allclose(loss(system, batch), expected, atol=1e-6)


class Volume(Reconstruction):
    def score(self, prepared):
        error = (self.network(prepared.input) - prepared.target) ** 2
        return {"S_o": error.flatten(1).mean(1), "map_o": error.mean(dim=(1, 2))}


def test_features_of_three_dimensions_have_a_score_and_no_map():
    def build():
        return nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.Conv3d(4, 3, 1))

    clip = torch.rand(2, 3, 4, 8, 8)
    system = pair(build, Volume, at="0", score_weight=0.5)
    fea_s, fea_t = made(build, 1)[0](clip), made(build, 0)[0](clip)
    parts = score(system, clip)
    assert set(parts) == {"S_o", "map_o", "S_fea"} and parts["S_fea"].shape == (2,)
    expected = ((fea_t - fea_s) ** 2).mean(dim=(1, 2, 3, 4))
    assert torch.allclose(parts["S_fea"], expected, atol=1e-6)
    arrays = {name: value.detach().numpy() for name, value in parts.items()}
    assert set(system.total(arrays, arrays)) == {"S_total"}  # without map_fea no map_total
    loss(system, clip).backward()
    assert all(p.grad is not None for p in system.parameters())


def test_features_without_places_have_a_score_and_no_map():
    def build():
        return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 6))

    class Rows(Reconstruction):
        def score(self, prepared):
            return {"S_o": ((self.network(prepared.input) - prepared.target) ** 2).mean(dim=1)}

    rows = torch.rand(4, 6)
    parts = score(pair(build, Rows, at="0"), rows)
    expected = ((made(build, 0)[0](rows) - made(build, 1)[0](rows)) ** 2).mean(dim=1)
    assert "map_fea" not in parts and torch.allclose(parts["S_fea"], expected, atol=1e-6)


def test_another_layer_can_be_tapped(batch):
    assert score(boosted(at="encoder.1"), batch)["map_fea"].shape == (2, 4, 6)


def stack(seed: int, inplace: bool) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(inplace), nn.Conv2d(4, 4, 1), nn.ReLU(inplace),
        nn.Conv2d(4, 3, 1),
    )  # fmt: skip


@pytest.mark.parametrize("attend", [False, True])
@pytest.mark.parametrize("at", [["0"], ["2"], ["0", "2"]])
def test_a_relu_that_works_in_place_behind_the_tap_changes_nothing_compared(batch, at, attend):
    torch.manual_seed(5)
    masks = [SpatioChannelAttention(4, reduction=2) for _ in at] if attend else None
    found = {}
    for inplace in (True, False):
        detector = Reconstruction(stack(1, inplace))
        system = Boosted(detector, stack(0, inplace), at, copy.deepcopy(masks))
        value = loss(system, batch)
        value.backward()
        found[inplace] = {"loss": value.detach(), **gradients(system), **score(system, batch)}
    assert_close(found[True], found[False], atol=1e-7)


def test_a_relu_that_works_in_place_by_hand(batch):
    system = Boosted(Reconstruction(stack(1, inplace=True)), stack(0, inplace=True), at="0")
    fea_t, fea_s = stack(0, inplace=False)[0](batch), stack(1, inplace=False)[0](batch)
    assert (fea_t < 0).any() and (fea_s < 0).any()  # a ReLU has something to overwrite
    loss_o = ((stack(1, inplace=False)(batch) - batch) ** 2).mean()
    assert torch.allclose(loss(system, batch), loss_o + ((fea_t - fea_s) ** 2).mean(), atol=1e-6)


def test_a_layer_called_by_itself_is_not_refined(batch):
    system = boosted(attention=attention()).eval()
    loss(system, batch)
    system.network(batch)
    assert torch.equal(system.network.encoder(batch), network(1).eval().encoder(batch))
    code = network(1).eval().encoder(batch)
    assert torch.equal(system.network.bottleneck(code), network(1).eval().bottleneck(code))


def test_the_network_called_by_itself_is_refined(batch):
    system = boosted(attention=attention()).eval()
    error = ((system.network(batch) - batch) ** 2).mean(dim=1)
    assert torch.equal(error, score(system, batch)["map_o"])


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"at": "bottelneck"}, "at='bottelneck' names no layer of AutoEncoder.*one of:.*bottlenec"),
        ({"at": ["bottleneck", "nowhere"]}, "at='nowhere'.*Choose one of:.*bottleneck"),
        ({"at": ""}, "at='' names no layer"),
        ({"at": []}, "at least one layer"),
        ({"at": ["bottleneck", "bottleneck"]}, "none twice"),
        ({"refine": "sum"}, "refine is 'sum'; choose 'product' or 'residual'"),
        ({"score_weight": 1.5}, r"score_weight is 1.5.*eq. 6.*\[0, 1\], or be None"),
        ({"score_weight": -0.1}, "score_weight is -0.1"),
        (
            {"attention": [SpatialAttention(), SpatialAttention()]},
            r"2 module\(s\) for 1 layer\(s\), bottleneck.*list in the same order",
        ),
        (
            {"at": ["encoder", "bottleneck"], "attention": SpatialAttention()},
            r"1 module\(s\) for 2 layer\(s\), encoder, bottleneck",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_hooked(options, message):
    student, teacher = network(1), network(0)
    with pytest.raises(ValueError, match=message):
        Boosted(Reconstruction(student), teacher, **options)
    assert hooks(student) == hooks(teacher) == 0
    assert all(p.requires_grad for net in (student, teacher) for p in net.parameters())


@pytest.mark.parametrize("share", ["all", "half"])
def test_a_teacher_that_shares_parameters_is_refused_before_anything_is_frozen(share):
    student = network(0)
    teacher = student if share == "all" else network(1)
    teacher.encoder = student.encoder
    with pytest.raises(ValueError, match=r"shares parameters.*copy.deepcopy\(network\)"):
        Boosted(Reconstruction(student), teacher)
    assert all(p.requires_grad for p in student.parameters()) and hooks(student) == 0


def test_a_detector_as_the_teacher_is_refused():
    with pytest.raises(TypeError, match=r"a Detector. Give its network: teacher\.network"):
        Boosted(Reconstruction(network(1)), Reconstruction(network(0)))


@pytest.mark.parametrize(
    "module, message",
    [(SpatioChannelAttention(4, 2), rf"SpatioChannelAttention .* 'bottleneck'.*for {CODE} chan"),
     (ChannelAttention(4, 2), rf"ChannelAttention .* 'bottleneck'.*for {CODE} channels"),
     (nn.Upsample(scale_factor=2), "Upsample cannot be used at 'bottleneck'"),
     (nn.Unflatten(0, (2, 1)), r"Unflatten turns .*\(2, 8, 2, 3\).* into \(2, 2, 8, 2, 3\)")],
)  # fmt: skip
def test_an_attention_of_another_width_is_refused_with_the_right_one(batch, module, message):
    with pytest.raises(ValueError, match=message):
        loss(boosted(attention=module), batch)


def test_a_network_is_boosted_once():
    system = boosted()
    before = hooks(system.network)
    with pytest.raises(ValueError, match=r"boosted already.*unboost\(\)"):
        Boosted(system.detector, network(0))
    with pytest.raises(ValueError, match="boosted already"):  # copies drag the hooks along
        Boosted(copy.deepcopy(system.detector), network(0))
    assert hooks(system.network) == before
    system.unboost()
    Boosted(system.detector, network(0))


@pytest.mark.parametrize("verb", ["loss", "score"])
def test_a_layer_that_never_ran_is_refused_with_those_that_did(batch, verb):
    system = pair(Trunk, at="unused")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"'unused' never ran while Trunk.*coarse \(2, 6, 8,"):
            getattr(system, verb)(system.prepare(batch))


def test_a_second_layer_that_never_ran_is_refused_too(batch):
    with pytest.raises(ValueError, match="'unused' never ran"):
        loss(pair(Trunk, at=["coarse", "unused"]), batch)


def test_a_loss_that_passes_the_network_by_is_refused(batch):
    class Around(Reconstruction):
        def loss(self, prepared):
            return self.network.forward(prepared.input).mean()

    with pytest.raises(ValueError, match=r"Trunk was never called.*must call network\(…\)"):
        loss(pair(Trunk, Around, at="coarse"), batch)


class Dictionary(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)
        self.tap = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.tap({"out": self.trunk(x)})["out"])


@pytest.mark.parametrize("attend", [False, True])
def test_a_layer_that_returns_a_dict_is_refused_with_those_that_return_tensors(batch, attend):
    mask = SpatialAttention() if attend else None
    with pytest.raises(ValueError, match=r"'tap' returns a dict.*Choose one of: trunk \(2, 4") as e:
        loss(pair(Dictionary, at="tap", attention=mask), batch)
    assert "tap (" not in str(e.value)


def test_other_shapes_in_teacher_and_student_are_refused(batch):
    system = Boosted(Reconstruction(network(1)), network(0, code=4))
    shapes = r"the student's feature is \(2, 8, 2, 3\), the teacher's \(2, 4, 2, 3\).*same shape"
    with pytest.raises(ValueError, match=f"At 'bottleneck' {shapes}"):
        loss(system, batch)


def test_a_teacher_that_runs_the_layer_less_often_is_refused(batch):
    class Once(Twice):
        def forward(self, x: Tensor) -> Tensor:
            return self.block(x)

    system = Boosted(Reconstruction(made(Twice, 1)), made(Once, 0), at="block")
    with pytest.raises(ValueError, match="ran more often in the student"):
        loss(system, batch)


@pytest.mark.parametrize("memory", [False, True])
def test_a_network_that_changes_its_input_is_refused(batch, memory):
    class Greedy(Trunk):
        def __init__(self):
            super().__init__()
            if memory:
                self.register_buffer("memory", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.mul_(0.5))

    system = pair(Greedy, at="coarse")
    with pytest.raises(ValueError, match=r"Greedy changes its input in place.*x.clone\(\)"):
        loss(system, batch)


def test_an_unboosted_network_is_not_used_on(batch):
    system = boosted()
    system.unboost()
    for verb in (system.loss, system.score):
        with pytest.raises(ValueError, match="was unboosted. Make a new Boosted"):
            verb(system.prepare(batch))


def test_a_failed_loss_leaves_nothing_behind(batch):
    system = boosted(attention=attention())
    with pytest.raises(ValueError, match="multiples of 8"):
        loss(system, batch[..., :-1])
    fresh = boosted(attention=attention())
    assert torch.equal(loss(system, batch), loss(fresh, batch))


def test_a_student_that_fails_half_way_leaves_no_features_behind(batch):
    def fail(*args):
        raise RuntimeError("no power")

    system = boosted(attention=attention(), at="encoder.2").eval()
    handle = system.network.encoder[1].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="no power"):
        loss(system, batch)
    handle.remove()
    assert torch.equal(system.network.encoder(batch), network(1).eval().encoder(batch))


def test_a_teacher_without_the_layer_is_refused_before_anything_is_hooked():
    student = network(1)
    with pytest.raises(ValueError, match="at='bottleneck' names no layer of Trunk.*coarse"):
        Boosted(Reconstruction(student), made(Trunk, 0))
    assert hooks(student) == 0


# ---- the teacher -------------------------------------------------------------------------------


def test_the_teacher_stays_as_it_was(batch):
    teacher = network(0)
    before = copy.deepcopy(teacher.state_dict())
    system = Boosted(Reconstruction(network(1)), teacher).train()
    optimiser = torch.optim.SGD(system.parameters(), lr=0.1)
    for _ in range(2):
        loss(system, batch).backward()
        optimiser.step()
    assert not any(module.training for module in system.teacher.modules())
    for name, value in system.teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert teacher.training and hooks(teacher) == 0 and system.teacher is not teacher


@pytest.mark.parametrize("part", ["", "encoder.1"])
def test_a_teacher_set_to_training_by_somebody_does_not_move(batch, part):
    system = boosted()
    expected = loss(system, batch)
    before = copy.deepcopy(system.teacher.state_dict())
    system.teacher.get_submodule(part).train()
    assert torch.equal(loss(system, batch), expected)
    for name, value in system.teacher.state_dict().items():
        assert torch.equal(value, before[name]), name


class Remembers(Trunk):
    """Writes to its buffers whenever it is run: once in place, once by a new tensor."""

    def __init__(self):
        super().__init__()
        self.register_buffer("memory", torch.zeros(4))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        fea = self.fine(x) + self.memory[:, None, None]
        with torch.no_grad():
            self.memory += fea.mean(dim=(0, 2, 3))
            self.calls = self.calls + 1
        return self.back(self.coarse(fea.tanh()))


def test_a_memory_the_teacher_writes_to_stays_as_it_was(batch):
    system = pair(Remembers, at="coarse")
    found = []
    for _ in range(3):
        found.append(score(system, batch)["S_fea"])
        system.network.memory.zero_()  # the student's own moves on, as it should
    assert system.teacher.memory.abs().max() == 0 and system.teacher.calls == 0
    assert system.network.calls == 3
    assert torch.equal(found[0], found[1]) and torch.equal(found[1], found[2])


def test_the_teacher_stops_at_the_tapped_layer(batch):
    system = boosted()
    ran = []
    score(system, batch)  # the first pass looks at every layer
    system.teacher.decoder.register_forward_hook(lambda *args: ran.append("decoder"))
    system.teacher.encoder.register_forward_hook(lambda *args: ran.append("encoder"))
    score(system, batch)
    assert ran == ["encoder"]


def test_no_feature_outlives_its_step(batch):
    system = boosted(attention=attention())
    loss(system, batch)
    assert system._pairs is None and not system._said and not system._teacher._kept


def test_the_teacher_may_be_a_boosted_network_itself(batch):
    first = boosted(attention=attention()).eval()
    expected = first.network(batch)
    second = Boosted(Reconstruction(network(2)), first.network, at="decoder").eval()
    student = network(2).eval()(batch)
    assert torch.allclose(score(second, batch)["map_fea"], ((expected - student) ** 2).mean(dim=1))


# ---- a network again, files, copies, precisions ------------------------------------------------


def test_unboost_gives_back_a_network_like_any_other(batch):
    system = boosted(attention=attention(), at="bottleneck")
    fit(system, IMAGES, steps=2, batch_size=4)
    plain = network(3).to(memory_format=torch.channels_last)  # as `fit` did
    plain.load_state_dict(system.network.state_dict())
    own = system.network
    assert not torch.equal(own.eval()(batch), plain.eval()(batch))  # it is refined
    assert system.unboost() is own and hooks(own) == 0
    assert torch.equal(own(batch), plain(batch))
    holds = {type(module) for module in copy.deepcopy(own).modules()}
    assert holds == {type(module) for module in plain.modules()}
    assert set(vars(own)) == set(vars(plain))


def test_state_dict_and_parameters_have_no_teacher():
    system = boosted()
    assert len(list(system.parameters())) == len(list(network(0).parameters()))
    keys = set(system.state_dict()) - {f"detector.{key}" for key in system.detector.state_dict()}
    assert keys == {"fingerprint.teacher"}


@pytest.mark.parametrize("with_teacher", [False, True])
def test_a_state_dict_makes_the_round_trip_through_a_file(tmp_path, batch, with_teacher):
    system = boosted(attention=attention())
    fit(system, IMAGES, steps=2, batch_size=4)
    torch.save(system.eval().state_dict(teacher=with_teacher), tmp_path / "boosted.pt")
    state = torch.load(tmp_path / "boosted.pt", weights_only=True)
    assert any(key.startswith("teacher.") for key in state) is with_teacher
    teacher = network(7 if with_teacher else 0)
    fresh = Boosted(Reconstruction(network(8)), teacher, attention=attention(seed=9)).eval()
    fresh.to(memory_format=torch.channels_last)  # as `fit` did, so that not a bit may differ
    assert not torch.allclose(score(fresh, batch)["S_fea"], score(system, batch)["S_fea"])
    report = fresh.load_state_dict(state)
    assert not report.missing_keys and not report.unexpected_keys
    for name, value in score(system, batch).items():
        assert torch.equal(score(fresh, batch)[name], value), name
    assert not any(p.requires_grad for p in fresh.teacher.parameters())


def wrapped(system: Boosted) -> nn.Module:
    return nn.ModuleDict({"inner": system})


@pytest.mark.parametrize("around", [lambda system: system, wrapped], ids=["alone", "within"])
def test_a_state_of_another_teacher_is_refused_before_anything_is_loaded(around):
    """The smallest difference: one weight of the teacher, by the smallest step."""
    teacher = network(0)
    weight = next(teacher.parameters()).data.view(-1)
    weight[0] = torch.nextafter(weight[0], torch.tensor(9.0))
    state = around(Boosted(Reconstruction(network(1)), teacher)).state_dict()
    system = Boosted(Reconstruction(network(2)), network(0))
    before = copy.deepcopy(system.detector.state_dict())
    with pytest.raises(ValueError, match=r"with another teacher \(AutoEncoder\)"):
        around(system).load_state_dict(state, strict=False)
    assert_close(before, system.detector.state_dict(), atol=0)


def test_a_training_does_not_go_on_with_another_teacher(tmp_path):
    path = tmp_path / "run.pt"
    fit(boosted(), IMAGES, steps=2, checkpoint=path)
    with pytest.raises(ValueError, match=r"run\.pt does not fit.*another teacher"):
        fit(Boosted(Reconstruction(network(1)), network(3)), IMAGES, steps=2, checkpoint=path)


def test_a_state_that_names_no_teacher_is_loaded_and_said():
    state = boosted().state_dict()
    del state["fingerprint.teacher"]
    with pytest.warns(UserWarning, match="does not say which teacher it was trained with"):
        report = boosted().load_state_dict(state)
    assert not report.missing_keys and not report.unexpected_keys


def test_a_state_dict_that_does_not_fit_is_refused():
    state = boosted(attention=attention()).state_dict()
    with pytest.raises(RuntimeError, match="Unexpected.*attention.0.encode"):
        boosted().load_state_dict(state)


def test_a_killed_training_of_a_boosted_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)

    whole = boosted(attention=attention())
    losses = fit(whole, IMAGES, steps=6)
    with pytest.raises(Killed):
        data = Failing(IMAGES, at=4)
        fit(boosted(attention=attention()), data, steps=6, checkpoint=tmp_path / "run.pt")
    again = Boosted(Reconstruction(network(8)), network(0), attention=attention(seed=9))
    assert fit(again, IMAGES, steps=6, checkpoint=tmp_path / "run.pt") == losses
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_a_deep_copy_works_on_its_own(batch):
    system = boosted(attention=attention()).eval()
    twin = copy.deepcopy(system)
    with torch.no_grad():
        for parameter in [*system.parameters(), *system.teacher.parameters()]:
            parameter.add_(1)
    assert twin.teacher is not system.teacher
    expected = score(boosted(attention=attention()).eval(), batch)
    for name, value in score(twin, batch).items():
        assert torch.equal(value, expected[name]), name
    twin.unboost()
    assert hooks(twin.network) == 0 and hooks(system.network) == 3
    score(system, batch)


def test_moving_takes_teacher_and_attention_along(batch):
    system = boosted(attention=attention()).to(torch.float64)
    for part in (system.teacher, system.attention, system.network):
        assert all(p.dtype == torch.float64 for p in part.parameters())
    same = boosted(attention=attention())
    got, expected = loss(system, batch.double()), loss(same, batch)
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("kind", ATTENTION)
def test_under_autocast_the_mimicry_stays_in_fp32(batch, kind):
    class Watched(Boosted):
        def mimicry(self, fea_t, fea_s):
            self.types = {fea_t.dtype, fea_s.dtype}
            return super().mimicry(fea_t, fea_s)

        def guide(self, fea_t, fea_s):
            self.seen = {fea_t.dtype, fea_s.dtype}
            return super().guide(fea_t, fea_s)

    system = Watched(Reconstruction(network(1)), network(0), attention=attention(kind))
    expected = loss(system, batch)
    with torch.autocast("cpu", torch.bfloat16):
        got = loss(system, batch)
        parts = score(system, batch)
    assert system.types == {torch.float32} and got.dtype == torch.float32
    assert kind == "none" or system.seen == {torch.bfloat16}  # autocast did what it does
    assert got.item() != expected.item() and got.item() == pytest.approx(expected.item(), rel=0.03)
    assert all(value.dtype == torch.float32 for value in parts.values())
    got.backward()
    assert all(p.grad.isfinite().all() for p in system.parameters())


@pytest.mark.parametrize("kind", ATTENTION)
def test_the_layout_of_the_memory_changes_nothing(batch, kind):
    system = boosted(attention=attention(kind)).eval()
    expected, own = loss(system, batch), score(system, batch)
    system.to(memory_format=torch.channels_last)
    last = batch.to(memory_format=torch.channels_last)
    assert torch.allclose(loss(system, last), expected, atol=1e-6)
    for name, value in score(system, last).items():
        assert torch.allclose(value, own[name], atol=1e-5), name


def test_scoring_works_in_inference_mode(batch):
    expected = score(boosted().eval(), batch)
    with torch.inference_mode():
        parts = score(boosted().eval(), batch.clone())
    assert all(torch.equal(parts[name], value) for name, value in expected.items())


def test_loss_and_score_can_be_compiled_after_a_first_call(batch):
    pytest.importorskip("torch._dynamo", reason="this torch has no dynamo")
    torch.manual_seed(5)
    system = pair(Trunk, at="coarse", attention=SpatioChannelAttention(6, reduction=2))
    prepared = system.prepare(batch)
    torch._dynamo.reset()
    for verb in (system.loss, system.score):
        expected = verb(prepared)
        got = torch.compile(verb, fullgraph=True, backend="eager")(prepared)
        if isinstance(expected, Tensor):
            got.backward()
            expected, got = {"loss": expected}, {"loss": got}
        assert_close(got, expected)
    assert any(p.grad.any() for p in system.attention.parameters())
    torch._dynamo.reset()


# ---- unmodified networks from torchvision --------------------------------------------------------


class Segmentation(Reconstruction):
    """What a reader writes around a network that returns a dictionary."""

    def loss(self, prepared):
        return nn.functional.mse_loss(self.network(prepared.input)["out"], prepared.target)

    def score(self, prepared):
        error = (self.network(prepared.input)["out"] - prepared.target) ** 2
        return {"S_o": error.mean(dim=(1, 2, 3)), "map_o": error.mean(dim=1)}


@pytest.fixture(scope="module")
def strangers() -> list[nn.Module]:
    segmentation = pytest.importorskip("torchvision.models.segmentation")
    build = segmentation.lraspp_mobilenet_v3_large
    options = dict(weights=None, weights_backbone=None, num_classes=3)
    return [(torch.manual_seed(seed), build(**options))[1] for seed in (0, 1)]


def test_a_torchvision_network_is_boosted_unmodified(strangers):
    images = torch.rand(2, 3, 32, 32)
    teacher, net = copy.deepcopy(strangers)
    system = Boosted(Segmentation(net), teacher, "backbone.12", SpatioChannelAttention(112))
    optimiser = torch.optim.SGD(system.parameters(), lr=1e-3)
    before = copy.deepcopy(system.attention.state_dict())
    loss(system.train(), images).backward()
    optimiser.step()
    for name, value in system.attention.state_dict().items():
        assert not torch.equal(value, before[name]), name
    parts = score(system.eval(), images)
    assert parts["S_fea"].min() > 0 and parts["map_fea"].dim() == 3
    plain = strangers[0]
    plain.load_state_dict(net.state_dict())
    assert torch.equal(system.unboost()(images)["out"], plain.eval()(images)["out"])


def test_the_dictionary_of_a_torchvision_backbone_is_refused_with_its_layers(strangers):
    teacher, net = copy.deepcopy(strangers)
    system = Boosted(Segmentation(net), teacher, at="backbone")
    with pytest.raises(ValueError, match=r"'backbone' returns a \w*[dD]ict.*backbone.12 \("):
        loss(system, torch.rand(2, 3, 32, 32))
