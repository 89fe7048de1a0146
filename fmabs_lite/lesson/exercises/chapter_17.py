"""Checks of the exercises of chapter 17: what the papers leave open."""

from fmabs_lite.lesson.exercises.registry import exercise


@exercise("17.1")
def _programs(programs):
    for readings, right in (([2, 3, 2], 12), ([2] * 44, 2**44), ([5], 5), ([], 1)):
        got = programs(readings)
        assert got == right, (
            f"{len(readings)} questions with {readings[:4]}… readings: every answer goes with "
            f"every other, which makes {right} programs, not {got}."
        )


@exercise("17.2")
def _flattery(flattery):
    cases = [([0.70, 0.74, 0.71], 0, 0.04), ([0.70, 0.74, 0.71], 1, 0.0), ([0.6], 0, 0.0)]
    for curve, fixed, right in cases:
        got = float(flattery(curve, fixed))
        assert abs(got - right) < 1e-9, (
            f"The best of {curve} is {max(curve)}, and λ number {fixed} gives {curve[fixed]}: "
            f"{right:.2f}, not {got:.2f}."
        )


@exercise("17.3")
def _copycat(copycat):
    cases = [
        ([0, 0, 1, 1], [0, 0, 1, 1], 1.0, "who agree"),
        ([0, 0, 1, 1], [1, 1, 0, 0], 0.0, "who agree on nothing"),
        ([0, 1, 1, 1], [0, 0, 1, 1], 0.75, "one of whom calls one more frame anomalous"),
        ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1], 5 / 6, "one of whom calls one frame fewer anomalous"),
    ]
    for labels, others, right, who in cases:
        got = float(copycat(labels, others))
        assert abs(got - right) < 1e-9, f"For two {who} it is {right:.3f}, not {got:.3f}."
