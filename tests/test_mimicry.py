"""Mimicry: eq. 1, 3 and 4 by hand, and what the hooks must and must not do."""

import copy

import pytest
import torch
from torch import nn

from fmabs_lite.mimicry import Boosted, inconsistency, mimic_loss
from fmabs_lite.models import AutoEncoder, Reconstruction


def network(seed: int, code: int = 4) -> AutoEncoder:
    torch.manual_seed(seed)
    return AutoEncoder(width=4, code=code)


def boosted(**options) -> Boosted:
    return Boosted(Reconstruction(network(1)), network(0), **options)


@pytest.fixture
def batch() -> torch.Tensor:
    return torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))


def test_inconsistency_and_mimic_loss_by_hand():
    fea_t, fea_s = torch.tensor([[[[1.0, -2.0]]]]), torch.tensor([[[[4.0, -1.0]]]])
    assert inconsistency(fea_t, fea_s).flatten().tolist() == [3.0, 1.0]
    assert mimic_loss(fea_t, fea_s).item() == 5.0


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_loss_equals_equation_4_written_out(batch, mode):
    system = getattr(boosted(weight=0.3), mode)()
    student = copy.deepcopy(system.detector.network)
    student._forward_pre_hooks.clear()
    student.bottleneck._forward_hooks.clear()
    fea_t = network(0).eval().bottleneck(network(0).eval().encoder(batch))
    fea_s = student.bottleneck(student.encoder(batch))
    by_hand = ((student.decoder(fea_s) - batch) ** 2).mean() + 0.3 * ((fea_t - fea_s) ** 2).mean()
    assert torch.allclose(system.loss(system.prepare(batch)), by_hand, atol=1e-6)


def test_gradients_reach_the_student_and_never_the_teacher(batch):
    teacher = network(0)
    system = Boosted(Reconstruction(network(1)), teacher).train()
    system.loss(system.prepare(batch)).backward()
    assert all(p.grad is not None for p in system.parameters())
    assert all(p.grad is None and p.requires_grad for p in teacher.parameters())
    assert not any(p.requires_grad for p in system.teacher.parameters())


def test_the_teacher_stays_as_it_was(batch):
    teacher = network(0)
    before = copy.deepcopy(teacher.state_dict())
    system = Boosted(Reconstruction(network(1)), teacher).train()
    optimiser = torch.optim.SGD(system.parameters(), lr=0.1)
    for _ in range(2):
        system.loss(system.prepare(batch)).backward()
        optimiser.step()
    assert not system.teacher.training
    for name, value in system.teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_state_dict_and_parameters_are_the_students_alone():
    system = boosted()
    assert len(list(system.parameters())) == len(list(network(0).parameters()))
    assert not any("teacher" in key for key in system.state_dict())


def test_the_teacher_stops_at_the_tapped_layer(batch):
    system = boosted()
    ran = []
    system.score(system.prepare(batch))  # the first pass looks at every layer
    system.teacher.decoder.register_forward_hook(lambda *args: ran.append("decoder"))
    system.teacher.encoder.register_forward_hook(lambda *args: ran.append("encoder"))
    system.score(system.prepare(batch))
    assert ran == ["encoder"]


def test_scores_add_to_the_detectors_own(batch):
    system = boosted().eval()
    parts = system.score(system.prepare(batch))
    alone = Reconstruction(network(1)).eval()
    plain = alone.score(alone.prepare(batch))
    assert set(parts) == {"S_o", "map_o", "S_fea", "map_fea"}
    assert torch.equal(parts["S_o"], plain["S_o"]) and torch.equal(parts["map_o"], plain["map_o"])
    assert parts["map_fea"].shape == (2, 2, 3)
    assert torch.allclose(parts["map_fea"].mean(dim=(1, 2)), parts["S_fea"])


def test_a_student_equal_to_its_teacher_has_no_inconsistency(batch):
    twin = Boosted(Reconstruction(network(0)), network(0)).eval()
    assert twin.score(twin.prepare(batch))["S_fea"].abs().max() == 0


def test_a_deep_copy_works_on_its_own(batch):
    system = boosted().eval()
    twin = copy.deepcopy(system)
    with torch.no_grad():
        for parameter in system.parameters():
            parameter.add_(1)
    assert twin.teacher is not system.teacher
    fresh = boosted().eval()
    expected = fresh.score(fresh.prepare(batch))["S_fea"]
    assert torch.equal(twin.score(twin.prepare(batch))["S_fea"], expected)


def test_moving_takes_the_teacher_along():
    assert next(boosted().to(torch.float64).teacher.parameters()).dtype == torch.float64


def test_another_layer_can_be_tapped(batch):
    system = boosted(at="encoder.1")
    assert system.score(system.prepare(batch))["map_fea"].shape == (2, 4, 6)


def test_an_unknown_layer_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="at='bottelneck'.*bottleneck"):
        boosted(at="bottelneck")


def test_a_teacher_that_shares_parameters_is_refused_before_anything_is_frozen():
    student = network(0)
    with pytest.raises(ValueError, match="shares parameters"):
        Boosted(Reconstruction(student), student)
    half = network(1)
    half.encoder = student.encoder
    with pytest.raises(ValueError, match="shares parameters"):
        Boosted(Reconstruction(student), half)
    assert all(p.requires_grad for p in student.parameters())
    assert not student._forward_pre_hooks


def test_a_stranger_network_can_be_boosted(batch):
    def stranger(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, 3, 1))

    system = Boosted(Reconstruction(stranger(1)), stranger(0), at="1")
    expected = ((stranger(0)[:2](batch) - stranger(1)[:2](batch)) ** 2).mean(dim=(1, 2, 3))
    assert torch.allclose(system.score(system.prepare(batch))["S_fea"], expected, atol=1e-6)
