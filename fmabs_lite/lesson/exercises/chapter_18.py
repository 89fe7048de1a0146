"""Checks of the exercises of chapter 18: your own pictures."""

from fmabs_lite.lesson.exercises.registry import exercise


@exercise("18.1")
def _line(line):
    cases = [
        ([3.0, 1.0, 2.0], 0.5, 2.0, "four places, two of them above: the second of three"),
        (list(range(9)), 0.1, 8, "nine scores allow one in ten by their highest"),
        (list(range(19)), 0.05, 18, "20 · 0.95 is 19, in floats a little more: take care"),
        (list(range(99)), 0.1, 89, "number ⌈100 · 0.9⌉ = 90 of them, counted from 1"),
    ]
    for scores, rate, right, why in cases:
        got = float(line(scores, rate))
        assert got == right, (
            f"For {len(scores)} scores and a rate of {rate}: {why}; {right}, not {got}."
        )


@exercise("18.2")
def _needed(needed):
    for rate, right in ((0.1, 9), (0.05, 19), (0.01, 99), (0.5, 1), (0.3, 3)):
        got = needed(rate)
        assert got == right, (
            f"With {right} scores a new one has {right + 1} places, and one of them lies above "
            f"all: 1/{right + 1} is at most {rate}. For {right - 1} it is more. So {right}, not "
            f"{got}."
        )


@exercise("18.3")
def _misled(misled):
    cases = [
        (range(9), [7.5, 8.5, 9.5, 3], 0.1, 0.5, "the line is 8, and two of four lie above it"),
        (range(9), [8, 8, 8, 8], 0.1, 0.0, "a score on the line is not above it"),
        ([0.0] * 9, [1, 2], 0.1, 1.0, "known by heart: every fresh score lies above"),
    ]
    for train, fresh, rate, right, why in cases:
        got = float(misled(list(train), fresh, rate))
        assert got == right, f"Here {why}: {right}, not {got}."
