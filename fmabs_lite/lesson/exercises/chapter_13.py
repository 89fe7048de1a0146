"""Checks of the exercises of chapter 13: Jigsaw."""

from fmabs_lite.lesson.exercises.registry import exercise


@exercise("13.1")
def _undo(undo):
    import torch

    order = torch.tensor([[2, 0, 3, 1], [0, 1, 2, 3]])
    got = torch.as_tensor(undo(order))
    assert got.shape == order.shape, (
        f"One order for each item, {tuple(order.shape)}, not {tuple(got.shape)}."
    )
    assert ((got >= 0) & (got < 4)).all(), f"Places are 0 to 3; yours go to {int(got.max())}."
    things = torch.tensor([[10, 11, 12, 13], [20, 21, 22, 23]])
    back = things.gather(1, order).gather(1, got.long())
    assert torch.equal(back, things), (
        f"The order 2 0 3 1 makes 12 10 13 11 of 10 11 12 13; after your undo it is "
        f"{' '.join(map(str, back[0].tolist()))}. Where does the thing at place 0 have to go?"
    )


@exercise("13.2")
def _score(score):
    import numpy as np

    probabilities = np.array([[[0.9, 0.1], [0.3, 0.7]], [[0.5, 0.5], [0.8, 0.2]]])
    got = np.asarray(score(probabilities), float)
    assert got.shape == (2,), f"One number for each item: (2,), not {got.shape}."
    assert np.allclose(got, [0.3, 0.8]), (
        "The diagonals are 0.9 and 0.7, then 0.5 and 0.2; their smallest are 0.7 and 0.2, which "
        f"gives 0.3 and 0.8. Yours: {np.round(got, 3).tolist()}."
    )


@exercise("13.3")
def _with_neighbours(with_neighbours):
    import numpy as np

    scores = [0.1, 0.9, 0.2, -0.5, -0.4, 0.3]
    assert np.allclose(with_neighbours(scores, 0), scores), "With radius 0 nothing may change."
    got = np.asarray(with_neighbours(scores, 1), float)
    assert got.shape == (6,), f"As many frames as before: (6,), not {got.shape}."
    right = [0.9, 0.9, 0.9, 0.2, 0.3, 0.3]
    assert np.allclose(got, right), (
        f"For {scores} and radius 1 it is {right}, yours {np.round(got, 3).tolist()}. At the ends "
        "only the neighbours there are count."
    )
    assert np.allclose(with_neighbours([-2.0, -1.0], 1), [-1, -1]), (
        "Scores may be negative: what is outside the video must never win."
    )
