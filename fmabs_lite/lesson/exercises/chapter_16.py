"""Checks of the exercises of chapter 16: the ledger."""

from fmabs_lite.lesson.exercises.registry import exercise


@exercise("16.1")
def _one_sided(one_sided):
    cases = [
        ([1, 2, 4], 1 / 8, "Only the signs as they are give so much"),
        ([1, 1, -1], 4 / 8, "Sums of 1 or more: 3 once and 1 three times"),
        ([-1, -2], 1.0, "Every choice of signs gives at least the lowest sum"),
        ([0.1, 0.2, 0.3, 0], 2 / 16, "A difference of zero has two signs and one value"),
    ]
    for gaps, right, why in cases:
        got = float(one_sided(gaps))
        assert abs(got - right) < 1e-9, f"{why}: one_sided({gaps}) is {right}, not {got}."


@exercise("16.2")
def _least_seeds(least_seeds):
    for claims, level, right in ((1, 0.25, 3), (1, 0.05, 6), (12, 0.05, 9), (4, 0.5, 4)):
        got = least_seeds(claims, level)
        assert got == right, (
            f"{claims} claims at {level}: the smallest p-value of n seeds is 2 / 2ⁿ, times "
            f"{claims}; that needs {right} seeds, not {got}."
        )


@exercise("16.3")
def _agree(agree):
    wide, narrow = [80.0, 90.0, 100.0], [75.0, 75.1, 74.9]
    assert agree(wide, narrow), "Two deviations of 80, 90, 100 are 20 points; 75 lies within."
    assert not agree(narrow, wide), "Two deviations of the first list, not of the second."
    assert agree([90.0, 90.0, 90.0], [90.9, 90.9, 90.9]), "A point is always allowed."
    assert not agree([90.0, 90.0, 90.0], [91.1, 91.1, 91.1]), "More than a point is too much here."
