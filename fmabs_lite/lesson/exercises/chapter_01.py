"""Checks of the exercises of chapter 01: the data."""

from fmabs_lite.lesson.exercises.registry import exercise


@exercise("01.1")
def _count_lost(count_lost):
    import numpy as np

    from fmabs_lite.data.mvtec import resize_mask

    masks = np.zeros((5, 32, 32), bool)
    masks[0, :16] = True  # stays
    masks[1, 3, :] = True  # one line: a quarter of a new pixel
    masks[2, 8:10, 10:13] = True  # a quarter of one new pixel and an eighth of the next
    masks[3, 4:8, 4:8] = True  # exactly one new pixel
    got = count_lost(masks, 8)
    assert got != 3, "A mask that was empty from the start has lost nothing; do not count it."
    assert got == 2, f"Of five masks shrunk from 32 to 8 pixels two are lost; yours says {got}."
    noise = np.random.default_rng(0).random((20, 32, 32)) < 0.01
    expected = sum(m.any() and not resize_mask(m, 16).any() for m in noise)
    assert count_lost(noise, 16) == expected, "Right for one set of masks, wrong for another."


@exercise("01.2")
def _shrink_any(shrink_any):
    import numpy as np

    mask = np.zeros((4, 6), bool)
    mask[0, 0] = mask[3, 5] = True
    got = np.asarray(shrink_any(mask, 2))
    assert got.shape == (2, 3), f"A mask (4, 6) shrunk by 2 has shape (2, 3), not {got.shape}."
    assert got.tolist() == [[True, False, False], [False, False, True]], (
        "One True pixel in a block is enough, and the block is where the pixel is: reshape to "
        "(rows, factor, columns, factor), then look along axes 1 and 3."
    )
    noise = np.random.default_rng(0).random((12, 9)) < 0.1
    expected = [[noise[r : r + 3, c : c + 3].any() for c in (0, 3, 6)] for r in (0, 3, 6, 9)]
    assert np.array_equal(shrink_any(noise, 3), expected), "Wrong for a factor of 3."


@exercise("01.3")
def _fill(fill):
    import numpy as np

    got = np.asarray(fill(2, 3, 5)).tolist()
    assert got != [0, 0, 1, 0, 0], "Frame 1 has index 0, so the first abnormal index is first - 1."
    assert got != [0, 0, 1, 1, 0], "One frame too late: the file counts from 1, arrays from 0."
    assert got != [0, 1, 0, 0, 0], "The last frame is included."
    assert got == [0, 1, 1, 0, 0], f"fill(2, 3, 5) is [0, 1, 1, 0, 0], not {got}."
    assert np.asarray(fill(1, 4, 4)).tolist() == [1, 1, 1, 1], "fill(1, 4, 4) is all ones."
    assert np.asarray(fill(4, 4, 4)).tolist() == [0, 0, 0, 1], "fill(4, 4, 4) has a last one only."


@exercise("01.4")
def _bridge(bridge):
    import numpy as np

    labels = np.array([0, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0])
    given = labels.copy()
    got = np.asarray(bridge(labels, 1)).tolist()
    assert np.array_equal(labels, given), "Your function changed its input; work on a copy."
    assert got[:2] == [0, 0] and got[9:] == [0, 0, 0], (
        "What comes before the first event or after the last is no gap between two events."
    )
    assert got == [0, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0, 0], "With longest=1 only gaps of 1 are bridged."
    got = np.asarray(bridge(labels, 2)).tolist()
    assert got == [0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "A gap of exactly `longest` is bridged too."
    assert np.asarray(bridge(labels, 0)).tolist() == given.tolist(), "longest=0 changes nothing."
    assert not np.any(bridge(np.zeros(4, int), 2)), "Without events there is nothing to bridge."
