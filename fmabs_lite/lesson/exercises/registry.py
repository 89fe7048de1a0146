"""Automatic checks of the book's exercises.

A chapter ends an exercise cell with ``check("02.1", my_answer)``. The check prints one line and
lets the notebook run on, whatever the answer is. The checks stand in a file for each chapter;
numpy, torch and the rest of the package are imported inside them, so that importing them costs
nothing.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

_CHECKS: dict[str, Callable[[Any], None]] = {}


def exercise(number: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register the decorated function as the check of exercise `number`, as in ``"02.1"``.

    The function takes the reader's answer, returns nothing when it is right, and raises
    ``AssertionError(hint)`` when it is not: ``assert answer > 0, "The area is never negative."``
    """

    def register(function: Callable[[Any], None]) -> Callable[[Any], None]:
        if number in _CHECKS:
            raise ValueError(f"exercise {number} has two checks; give one of them a new number")
        _CHECKS[number] = function
        return function

    return register


def check(number: str, answer: Any) -> None:
    """Print whether `answer` solves exercise `number`: passed, not yet (and a hint), or not tried.

    A blank answer is ``...`` itself, or a function, class or tuple that still holds one.
    An answer that raises counts as "not yet", with the error's text.

    Raises ValueError for a number that has no check: a mistake of the chapter, not of the reader.
    """
    if number not in _CHECKS:
        raise ValueError(
            f"there is no exercise {number}; the exercises are {', '.join(sorted(_CHECKS))}"
        )
    print(f"Exercise {number}: {_verdict(_CHECKS[number], answer)}")


def _verdict(checker: Callable[[Any], None], answer: Any) -> str:
    if _is_blank(answer):
        return "not attempted."
    try:
        checker(answer)
    except AssertionError as hint:
        return f"not yet. {hint}".rstrip()
    except Exception as error:
        return f"not yet. Your answer raised {type(error).__name__}: {error}"
    return "passed."


def _is_blank(answer: Any) -> bool:
    if answer is ...:
        return True
    if isinstance(answer, tuple | list):
        return any(_is_blank(part) for part in answer)
    if inspect.isclass(answer):
        own_methods = [part for part in vars(answer).values() if inspect.isfunction(part)]
        return any(_is_blank(method) for method in own_methods)
    return inspect.isfunction(answer) and _instructions(inspect.unwrap(answer)) in _BLANKS


def _instructions(function: FunctionType) -> list[tuple[str, Any]]:
    return [(step.opname, step.argval) for step in dis.get_instructions(function)]


def _only_dots(): ...


def _returns_dots():
    return ...


_BLANKS = [_instructions(_only_dots), _instructions(_returns_dots)]
