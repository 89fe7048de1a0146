"""Checks of the exercises of chapter 15: HF2-VAD."""

from fmabs_lite.lesson.exercises.registry import exercise


@exercise("15.1")
def _speed(speed):
    import torch

    flow = torch.zeros(2, 2, 1, 4)
    flow[0, 0], flow[0, 1] = 3.0, 4.0  # 3 to the right and 4 down, everywhere
    flow[1, 0, 0] = torch.tensor([2.0, -2.0, 0.0, 0.0])
    got = speed(flow)
    assert tuple(got.shape) == (2,), f"One number for each flow: (2,), not {tuple(got.shape)}."
    assert abs(float(got[0]) - 5) < 1e-5, (
        f"An arrow of 3 to the right and 4 down is 5 long, not {float(got[0]):.3f}."
    )
    assert abs(float(got[1]) - 1) < 1e-5, (
        f"Two arrows of length 2 in opposite directions and two of 0 have the mean 1, not "
        f"{float(got[1]):.3f}: take lengths first, the mean after."
    )


@exercise("15.2")
def _answer(answer):
    import math

    import torch

    stored = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    query = torch.tensor([math.log(6.0), math.log(3.0)])  # products log 6, log 3, -log 18
    got = answer(query, stored, 0.1)
    assert tuple(got.shape) == (2,), f"An answer is a mix of slots: (2,), not {tuple(got.shape)}."
    assert abs(float(got.sum()) - 1) < 1e-4, (
        "The third slot has a weight far below 0.1 and must not answer, and what is left is "
        f"divided by its sum: the two numbers add up to 1, not {float(got.sum()):.4f}."
    )
    assert abs(float(got[0]) - 2 / 3) < 1e-4, (
        f"The first slot weighs twice the second: 2/3 and 1/3, not {float(got[0]):.4f} and "
        f"{float(got[1]):.4f}."
    )
    whole = answer(query, stored, 0.0)
    weights = torch.tensor([6.0, 3.0, 1 / 18]) / (9 + 1 / 18)
    assert torch.allclose(whole, weights @ stored, atol=1e-5), (
        "With `least` = 0 every slot answers, by its softmax weight."
    )


@exercise("15.3")
def _one_ruler(one_ruler):
    import numpy as np

    known_flow, known_frame = [0.0, 2.0], [10.0, 30.0]  # means 1 and 20, deviations 1 and 10
    got = np.asarray(one_ruler([1.0, 4.0], [20.0, 10.0], known_flow, known_frame, 1.0, 0.1))
    assert got.shape == (2,), f"One score a test cube: (2,), not {got.shape}."
    assert abs(got[0]) < 1e-9, (
        f"A cube with both errors at the training mean has the score 0, not {got[0]:.3f}."
    )
    assert abs(got[1] - 2.9) < 1e-9, (
        "3 deviations above for the flow, 1 below for the frame, weighed 1 and 0.1, make 2.9, "
        f"not {got[1]:.3f}. The ruler is the training cubes', not the test's."
    )


@exercise("15.4")
def _most(most):
    for slots, right in ((2, 1), (3, 2), (2000, 1999)):
        got = most(slots)
        assert got == right, (
            f"The weights of {slots} slots have the mean 1/{slots}. All but one can lie above it: "
            f"{right}, not {got}."
        )
    assert most(1) == 0, "A single slot always weighs 1, which is 1/1, and so it is cut: 0."
