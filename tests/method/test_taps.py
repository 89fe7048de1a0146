"""Taps: finding layers, watching them, and a teacher that stops early and stays as it is."""

import copy
from collections import OrderedDict, namedtuple

import pytest
import torch
from torch import Tensor, nn

from fmabs_lite.taps import (
    Teacher,
    choices,
    first_tensor,
    layer,
    memory_of,
    refuse_shared,
    survey,
    with_first_tensor,
)

Point = namedtuple("Point", "name value other")


@pytest.fixture
def batch() -> Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def stack(seed: int = 0, inplace: bool = True) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        OrderedDict(
            one=nn.Conv2d(3, 4, 1), cut=nn.ReLU(inplace), two=nn.Conv2d(4, 5, 1), end=nn.Tanh()
        )
    )


def hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def said(teacher: Teacher, *args, **kwargs) -> dict[str, list[Tensor]]:
    return teacher.features(args, kwargs)


# ---- layers and outputs ------------------------------------------------------------------------


def test_a_layer_is_found_by_its_path_and_missed_with_the_choices():
    network = nn.Sequential(stack(), nn.Tanh())
    assert layer(network, "0.two") is network[0].two
    for wrong in ("0.three", "", "two", "0.two.weight"):
        with pytest.raises(ValueError, match=r"names no layer of Sequential.*0, 0.one, 0.cut, 0.t"):
            layer(network, wrong)


def test_the_first_tensor_of_what_a_layer_may_return():
    x, y = torch.zeros(1), torch.ones(1)
    assert first_tensor(x) is x
    for output in ((x, y), [x, y], ("a", x, y), Point("a", x, y), ({"y": y}, x)):
        assert first_tensor(output) is x
    for output in ({"x": x}, None, (), ("a", None), "text"):
        assert first_tensor(output) is None


def test_the_first_tensor_is_replaced_and_nothing_else():
    x, y, new = torch.zeros(1), torch.ones(1), torch.full((1,), 2.0)
    assert with_first_tensor(x, new) is new
    for output in ((x, y), [x, y], ("a", x, y), ["a", x, y], Point("a", x, y)):
        got = with_first_tensor(output, new)
        assert type(got) is type(output) and first_tensor(got) is new
        assert got[-1] is y and len(got) == len(output) and got[:-2] == output[:-2]
        assert first_tensor(output) is x  # the original is left alone


# ---- the survey --------------------------------------------------------------------------------


def surveyed(network: nn.Module, *args, **kwargs) -> dict:
    return survey(network, lambda args, kwargs: network(*args, **kwargs), args, kwargs)


def test_a_survey_notes_every_call_in_order_and_leaves_nothing_behind(batch):
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.never = nn.MaxPool2d(2), nn.Conv2d(3, 3, 1)
            self.words = nn.Identity()

        def forward(self, x, *, times):
            for _ in range(times):
                x = self.block(x)
            self.words({"x": x})
            return x

    network = Loop()
    seen = surveyed(network, batch, times=2)
    assert seen == {"block": [(2, 3, 4, 4), (2, 3, 2, 2)], "words": ["dict"]}
    assert choices(seen) == "Choose one of: block (2, 3, 4, 4)"
    assert hooks(network) == 0
    with pytest.raises(RuntimeError):
        surveyed(network, batch[0, 0, 0, 0], times=1)
    assert hooks(network) == 0


@pytest.mark.parametrize("by_name", [False, True])
def test_a_survey_refuses_a_network_that_changes_its_input(batch, by_name):
    network = nn.Sequential(nn.ReLU(inplace=True))
    run = (lambda args, kwargs: network(kwargs["x"])) if by_name else None
    run = run or (lambda args, kwargs: network(*args))
    given = ((), {"x": batch}) if by_name else ((batch,), {})
    with pytest.raises(ValueError, match="Sequential changes its input in place.*inplace=False"):
        survey(network, run, *given)
    assert surveyed(stack(), batch)["end"] == [(2, 5, 8, 8)]  # in place behind a layer is fine


# ---- the teacher -------------------------------------------------------------------------------


def test_a_teacher_is_a_frozen_copy_and_leaves_the_original_alone(batch):
    network = stack().train()
    teacher = Teacher(network, ["one"])
    assert teacher.network is not network and network.training and hooks(network) == 0
    assert all(p.requires_grad for p in network.parameters())
    assert not any(p.requires_grad for p in teacher.network.parameters())
    with torch.no_grad():
        network.one.weight.add_(1)
    fea = said(teacher, batch)["one"][0]
    assert torch.equal(fea, stack().one(batch)) and not fea.requires_grad
    assert not isinstance(teacher, nn.Module)


@pytest.mark.parametrize("at", [["one"], ["one", "two"], ["two", "one"], ["one", "cut"]])
def test_features_are_what_the_layers_returned_before_anything_overwrote_them(batch, at):
    plain, expected = stack(inplace=False), {}
    expected["one"] = plain.one(batch)
    expected["cut"] = expected["one"].relu()
    expected["two"] = plain.two(expected["cut"])
    assert (expected["one"] < 0).any()
    teacher = Teacher(stack(inplace=True), at)
    for _ in range(2):  # first with the survey, then without
        found = said(teacher, batch)
        assert list(found) == at
        assert all(len(found[path]) == 1 for path in at)
        assert all(torch.equal(found[path][0], expected[path]) for path in at)


@pytest.mark.parametrize(
    "at, ran", [(["one"], ["one"]), (["cut", "one"], ["one", "cut"]), (["two"], ["one", "cut"])]
)
def test_a_teacher_runs_no_further_than_its_last_layer(batch, at, ran):
    teacher = Teacher(stack(), at)
    said(teacher, batch)
    heard = []
    for name, module in teacher.network.named_children():
        if name not in at or name == "cut":
            module.register_forward_pre_hook(lambda *args, name=name: heard.append(name))
    said(teacher, batch)
    assert heard == [name for name in ran if name not in at or name == "cut"]


def test_a_layer_that_runs_twice_is_waited_for(batch):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.end = nn.Conv2d(3, 3, 1), nn.Tanh()

        def forward(self, x):
            return self.end(self.block(self.block(x).relu_()))

    torch.manual_seed(0)
    network = Twice()
    teacher = Teacher(network, ["block"])
    first = network.block(batch)
    second = network.block(first.relu())
    for _ in range(2):
        found = said(teacher, batch)["block"]
        assert len(found) == 2
        assert torch.equal(found[0], first) and torch.equal(found[1], second)


def test_a_layer_without_a_tensor_or_a_call_says_nothing(batch):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.never = nn.Identity(), nn.Identity()

        def forward(self, x):
            return self.words({"x": x})["x"]

    assert said(Teacher(Odd(), ["words", "never"]), batch) == {"words": [], "never": []}


def test_what_a_layer_does_only_later_is_found_when_it_comes(batch):
    class Depends(nn.Module):
        def __init__(self):
            super().__init__()
            self.small, self.large = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 5, 1)

        def forward(self, x):
            return self.small(x) if len(x) < 2 else self.large(x)

    teacher = Teacher(Depends(), ["small", "large"])
    assert {k: len(v) for k, v in said(teacher, batch[:1]).items()} == {"small": 1, "large": 0}
    assert {k: len(v) for k, v in said(teacher, batch).items()} == {"small": 0, "large": 1}
    assert set(teacher.seen) == {"small", "large"}


def test_a_failing_pass_leaves_the_teacher_ready(batch):
    teacher = Teacher(stack(), ["one", "two"])
    expected = said(teacher, batch)
    with pytest.raises(RuntimeError):
        said(teacher, batch[:, :2])
    found = said(teacher, batch)
    assert [len(found[path]) for path in ("one", "two")] == [1, 1]
    assert torch.equal(found["two"][0], expected["two"][0])


def test_a_teacher_draws_no_random_number_of_the_students(batch):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout(), nn.Tanh())
    teacher = Teacher(network, ["2"])
    state = torch.get_rng_state()
    first = said(teacher, batch)["2"][0]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(said(teacher, batch)["2"][0], first)


def test_memory_is_lent_and_normalisation_is_not():
    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(3)
            self.register_buffer("memory", torch.ones(2))
            self.register_buffer("quiet", torch.ones(1), persistent=False)
            self.register_buffer("unset", None)

    network = nn.ModuleDict({"inner": Keeps()})
    lent = memory_of(network)
    assert set(lent) == {"inner.memory", "inner.quiet"}
    lent["inner.memory"].zero_()
    assert network["inner"].memory.sum() == 2
    assert set(memory_of(network["inner"])) == {"memory", "quiet"}
    assert memory_of(stack()) == {}


def test_shared_parameters_are_refused_and_equal_ones_are_not():
    network = stack()
    refuse_shared(network, copy.deepcopy(network))
    part = stack(1)
    part.two = network.two
    for teacher in (network, part):
        with pytest.raises(ValueError, match="shares parameters with the student"):
            refuse_shared(network, teacher)


def test_calling_the_teachers_network_by_itself_keeps_nothing():
    teacher = Teacher(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), ["0"])
    teacher.features((torch.ones(1, 2),), {})
    assert teacher.network(torch.ones(1, 2)).shape == (1, 2)  # to its end, without a stop
    assert len(teacher.features((torch.ones(1, 2),), {})["0"]) == 1
