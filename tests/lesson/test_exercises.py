"""The exercises' check: one line for every answer, and never an error for the reader."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fmabs_lite.lesson.exercises import check, exercise, registry

NUMBERS = sorted(registry._CHECKS)


@pytest.fixture(autouse=True)
def square(monkeypatch):
    monkeypatch.setattr(registry, "_CHECKS", dict(registry._CHECKS))

    @exercise("99.1")
    def _(answer):
        if answer(3) != 9:  # a bare assert would get pytest's additions
            raise AssertionError("Three squared is nine.")


def said(capsys, answer, number="99.1") -> str:
    check(number, answer)
    return capsys.readouterr().out


def blank(x: int) -> int: ...


def described_blank(x):
    """What to do."""
    ...


def returned_blank(x):
    return ...


class BlankClass:
    def __init__(self):
        self.a = 1

    def forward(self, x): ...


def wrapped(function):
    def inner(*args):
        return function(*args)

    inner.__wrapped__ = function
    return inner


BLANKS = [..., blank, described_blank, returned_blank, BlankClass, (1, ...), wrapped(blank)]


@pytest.mark.parametrize("answer", BLANKS)
def test_blank_is_not_attempted(capsys, answer):
    assert said(capsys, answer) == "Exercise 99.1: not attempted.\n"


def test_right_answer_passes(capsys):
    assert said(capsys, lambda x: x * x) == "Exercise 99.1: passed.\n"
    assert said(capsys, wrapped(lambda x: x * x)) == "Exercise 99.1: passed.\n"


def test_wrong_answer_gets_the_hint(capsys):
    assert said(capsys, lambda x: 2 * x) == "Exercise 99.1: not yet. Three squared is nine.\n"


def test_answer_that_does_nothing_useful_is_wrong_not_blank(capsys):
    def dots_in_an_index(x):
        return x[..., 0]

    assert "not yet" in said(capsys, dots_in_an_index)


def test_answer_that_raises_gets_its_error(capsys):
    assert said(capsys, lambda x: x / 0) == (
        "Exercise 99.1: not yet. Your answer raised ZeroDivisionError: division by zero\n"
    )
    assert "not yet. Your answer raised TypeError" in said(capsys, 4)


def test_unknown_number_is_the_authors_mistake():
    with pytest.raises(ValueError, match="no exercise 98.7; the exercises are .*99.1"):
        check("98.7", 1)


def test_a_number_is_registered_once():
    with pytest.raises(ValueError, match="exercise 99.1 has two checks"):
        exercise("99.1")(lambda answer: None)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("answer", [None, "an answer", -12345, lambda *args, **options: None])
def test_no_check_passes_nonsense(capsys, number, answer):
    line = said(capsys, answer, number)
    assert line.startswith(f"Exercise {number}: ") and "passed" not in line


def test_every_wrong_answer_gets_a_hint(capsys):
    for number in NUMBERS:
        assert said(capsys, None, number).strip() != f"Exercise {number}: not yet."


def test_importing_the_checks_is_light():
    code = (
        "import sys, fmabs_lite.lesson.exercises; "
        "sys.exit(bool({'torch', 'numpy', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
