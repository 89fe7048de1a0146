"""Checks of the exercises of chapter 09: hybrid scoring."""

from fmabs_lite.lesson.exercises.registry import exercise


@exercise("09.1")
def _grid(grid):
    import numpy as np

    got = np.asarray(grid(np.array([1.0, 0.0]), np.array([0.0, 4.0]), [0.0, 0.25, 1.0]))
    assert got.shape == (3, 2), f"Three λ and two frames give (3, 2), not {got.shape}."
    assert np.allclose(got, [[0, 4], [0.25, 3], [1, 0]]), "λ weighs S_fea, 1 − λ weighs S_o."


@exercise("09.2")
def _running(running):
    import numpy as np

    got = np.asarray(running([2.0, 2.0, 4.0, 3.0, 1.0, 5.0]), dtype=float)
    assert got.shape == (6,), "One value for each frame."
    assert np.all(got[:2] == 0), "While the range so far is 0, the value is 0."
    assert abs(got[3] - 0.5) < 1e-9, "At the fourth frame the range so far is 2 to 4: 3 gives 0.5."
    assert np.allclose(got, [0, 0, 1, 0.5, 0, 1]), "Use the past only, the present frame included."


@exercise("09.3")
def _selection_bonus(selection_bonus):
    curves = [[0.5, 0.6, 0.9], [0.7, 0.8, 0.6]]
    got = selection_bonus(curves, [0.0, 0.5, 1.0], 0.5)
    assert abs(got - 0.3) > 1e-9, "Average over the seeds; yours looks at one of them."
    assert abs(got - 0.15) < 1e-9, "Best minus fixed is 0.3 and 0.0; their mean is 0.15."
    assert abs(selection_bonus(curves, [0.0, 0.5, 1.0], 0.9) - 0.1) < 1e-9, "Take the nearest λ."
