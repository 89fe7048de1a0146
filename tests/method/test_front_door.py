"""What `fmabs_lite` hands on, and the README's example, which is made of it."""

from __future__ import annotations

import ast
import re

import pytest
import torch
from tiny_book import ROOT

import fmabs_lite


@pytest.fixture(scope="module")
def example() -> str:
    """The code in the README's section on a network of one's own."""
    section = (ROOT / "README.md").read_text("utf-8").partition("## A network of your own")[2]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]


@pytest.mark.slow
def test_the_readmes_example_runs_as_it_is(example):
    assert sum(bool(line.strip()) for line in example.splitlines()) <= 25
    names = {"__name__": "__main__"}
    with torch.random.fork_rng():
        exec(compile(example, "README.md", "exec"), names)
    student, screws, maps = names["student"], names["screws"], names["maps"]
    assert maps.shape == screws.test.masks.shape and names["scores"].shape == (len(maps),)
    defect = screws.test.masks.numpy()
    assert maps[defect].mean() > maps[~defect].mean()  # it knows a defect from the rest, somewhat
    assert student.unboost() is student.detector.network  # what the text below it says


def test_the_example_needs_nothing_but_the_front_door(example):
    imports = [node for node in ast.walk(ast.parse(example)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if node.module.startswith("fmabs_lite")]
    assert ours and {node.module for node in ours} == {"fmabs_lite"}
    assert {name.name for node in ours for name in node.names} <= set(fmabs_lite.__all__)


def test_each_name_is_the_object_of_that_name():
    from fmabs_lite.mimicry import Boosted

    assert fmabs_lite.Boosted is Boosted
    for name in fmabs_lite.__all__:
        assert getattr(fmabs_lite, name).__name__ == name and name in dir(fmabs_lite)


def test_another_name_is_refused_with_those_there_are():
    with pytest.raises(AttributeError, match="fmabs_lite has no 'Bosted'; it has Boosted, Chann"):
        fmabs_lite.Bosted  # noqa: B018
