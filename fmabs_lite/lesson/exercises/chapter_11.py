"""Checks of the exercises of chapter 11: MNAD."""

from fmabs_lite.lesson.exercises.registry import exercise


@exercise("11.1")
def _usage(usage):
    import torch

    items = torch.eye(3)
    query = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [1.0, 0.0, 0.0], [0.7, 0.3, 0.0]])
    got = torch.as_tensor(usage(query, items))
    assert got.shape == (3,), (
        f"One share for each of 3 items, also for nobody's; yours has shape {tuple(got.shape)}."
    )
    assert abs(float(got.sum()) - 1) < 1e-6, "The shares of all items sum to 1."
    assert torch.allclose(got.float(), torch.tensor([0.75, 0.25, 0.0])), (
        "Three of the four queries are nearest to the first item, one to the second."
    )


@exercise("11.2")
def _sharp_read(sharp_read):
    import torch

    from fmabs_lite.models.mnad import read

    torch.manual_seed(0)
    query = torch.nn.functional.normalize(torch.randn(5, 4), dim=1).requires_grad_()
    items = torch.nn.functional.normalize(torch.randn(3, 4), dim=1)
    assert torch.allclose(sharp_read(query, items, 1.0), read(query, items), atol=1e-6), (
        "At temperature 1 it is `read`."
    )
    nearest = items[(query @ items.T).argmax(dim=1)]
    assert torch.allclose(sharp_read(query, items, 1e-3), nearest, atol=1e-3), (
        "At a very low temperature the answer is the nearest item: divide by the temperature."
    )
    assert not sharp_read(query, items, 0.5).requires_grad, (
        "As in `read`, no gradient flows through the weights: detach them."
    )


@exercise("11.3")
def _online(online):
    import numpy as np

    scores, videos = [2.0, 4.0, 3.0, 9.0, 1.0, 5.0], np.array([0, 0, 0, 1, 1, 1])
    got = np.asarray(online(scores, videos), dtype=float)
    assert got.shape == (6,), "One value for each frame."
    assert got[0] == 0 and got[3] == 0, "The first frame of each video has no range yet: 0."
    assert abs(got[2] - 0.5) < 1e-9, "The third frame: 3 between 2 and 4 is 0.5."
    assert np.allclose(got, [0, 1, 0.5, 0, 0, 0.5]), "Each video has its own range, of its past."
    still = np.asarray(online([2.0, 2.0, 5.0], np.array([7, 7, 3])), dtype=float)
    assert np.array_equal(still, [0, 0, 0]), (
        "While all scores of a video are equal the value is 0; videos may have any numbers."
    )
