"""Automatic checks of the book's exercises.

A chapter ends an exercise cell with ``check("02.1", my_answer)``. The check prints one line and
lets the notebook run on, whatever the answer is. The checks stand below by chapter; numpy, torch
and the rest of the package are imported inside them, so that importing this file costs nothing.
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


# ---------------------------------------------------------------------------------------------
# The checks, by chapter
# ---------------------------------------------------------------------------------------------


# --- Chapter 00: start here ---


@exercise("00.1")
def _batch_bytes(batch_bytes):
    assert batch_bytes != 16 * 128 * 128 * 4, "A colour image has three channels."
    assert batch_bytes != 16 * 3 * 128 * 128, "So many numbers; each takes 4 bytes."
    assert batch_bytes == 16 * 3 * 128 * 128 * 4, "Multiply images, channels, height, width, bytes."


@exercise("00.2")
def _error_map(error_map):
    import torch

    images = torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1).expand(2, 3, 4, 5)
    got = error_map(images, torch.zeros(2, 3, 4, 5))
    assert got.shape == (2, 4, 5), f"The map's shape is (2, 4, 5), not {tuple(got.shape)}."
    value = float(got[0, 0, 0])
    assert abs(value - 0.5) > 1e-6, "Square the difference before you average."
    assert abs(value - 1.25) > 1e-6, "Average over the channels; yours is the sum."
    noise = torch.rand(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = (noise[0] - noise[1]).square().mean(1)
    assert torch.allclose(error_map(*noise), expected), "Not the mean of the squared differences."


@exercise("00.3")
def _alarms(alarms):
    import numpy as np

    scores, sound = np.array([0.1, 0.5, 0.50001, 3.0]), np.array([0.2, 0.5, 0.3])
    got = np.asarray(alarms(scores, sound))
    assert got.shape == (4,), "Give one answer for each of `scores`."
    assert got.tolist() != [False, True, True, True], "Larger than the largest; equal is no alarm."
    assert got.tolist() == [False, False, True, True], "Compare with the largest sound score."
    assert not np.any(alarms(sound, sound)), "No sound training image raises an alarm."


# --- Chapter 01: the data ---


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


# --- Chapter 02: the metrics ---


@exercise("02.1")
def _auroc_from_ranks(auroc_from_ranks):
    import numpy as np

    from fmabs_lite.metrics import auroc

    labels = np.array([True, False, True, False])
    got = auroc_from_ranks(np.array([4.0, 3.0, 2.0, 1.0]), labels)
    assert got is not None, "Return the number."
    assert not np.isclose(got, 0.25), "0.25 for 0.75: the higher score gets the higher rank."
    assert not np.isclose(got, 3), "That is the number of pairs won; divide by that of all pairs."
    assert np.isclose(got, 0.75), f"Scores 4, 3, 2, 1 with 4 and 2 anomalous: 0.75, not {got:.3g}."
    scores = np.random.default_rng(0).integers(0, 9, 200)
    labels = scores + np.random.default_rng(1).integers(0, 9, 200) > 10
    assert np.isclose(auroc_from_ranks(scores, labels), auroc(scores, labels)), (
        "Right without ties, wrong with them: tied scores share their mean rank."
    )


@exercise("02.2")
def _floor(floor):
    import numpy as np

    from fmabs_lite.metrics import localization

    masks = np.zeros((3, 8, 10), bool)
    masks[0, 2:4, 3:6] = masks[1, 5, 5] = True
    for max_fpr in (0.3, 0.05):
        got = floor(masks, max_fpr)
        expected = localization(np.zeros(masks.shape), masks, max_fpr)
        for name, value in expected.items():
            assert name in got, f'Your dictionary has no "{name}".'
            assert np.isclose(got[name], value), (
                f'"{name}" is {got[name]:.4g}, but a constant map has {value:.4g} on masks with '
                f"{masks.mean():.2%} defect pixels and max_fpr {max_fpr}."
            )


@exercise("02.3")
def _recall_at(recall_at):
    import numpy as np

    scores = np.array([9, 8, 7, 6, 5, 4, 3, 2, 1, 0])
    labels = np.array([1, 1, 0, 1, 0, 1, 0, 0, 0, 0], bool)
    got = [float(recall_at(scores, labels, rate)) for rate in (0, 0.17, 0.34, 1)]
    assert got[0] != 0, "Even at rate 0 the images above all sound ones can be raised."
    assert np.allclose(got, [0.5, 0.75, 1, 1]), (
        f"Ten images, four anomalous, rates 0, 0.17, 0.34, 1: 0.5, 0.75, 1, 1; yours are {got}."
    )
    tied = float(recall_at(np.array([2, 2, 1, 0]), np.array([1, 0, 1, 0], bool), 0.4))
    assert tied == 0, (
        "Scores 2, 2, 1, 0, the first and third anomalous, rate 0.4: to raise any is to raise "
        f"one of two sound images, which is too many, so 0; yours is {tied:.2g}."
    )


# --- Chapter 03: reconstruction ---


@exercise("03.1")
def _reconstruction_map(error_map):
    import torch

    images = torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1).expand(2, 3, 4, 5)
    got = error_map(images, torch.zeros(2, 3, 4, 5))
    assert got.shape == (2, 4, 5), f"The map's shape is (2, 4, 5), not {tuple(got.shape)}."
    assert abs(float(got[0, 0, 0]) - 1.25 / 3) < 1e-6, "Square first, then average over channels."


@exercise("03.2")
def _code_numbers(code_numbers):
    assert code_numbers(64, 32, 3) != 32 * 64 * 64 // 8, "Both height and width are halved."
    assert code_numbers(64, 32, 3) == 32 * 8 * 8, "Three halvings of 64 leave 8 × 8 positions."
    assert code_numbers(256, 1024, 4) == 262_144, "Right for 64, wrong for 256 with 4 strides."


@exercise("03.3")
def _shortcut(shortcut):
    import numpy as np

    labels = np.array([0, 0, 1, 1])
    assert abs(shortcut(np.array([4.0, 3.0, 2.0, 1.0]), labels) - 1) < 1e-9, (
        "A score that is always lower for the defective separates as well as one always higher."
    )
    assert abs(shortcut(np.array([1.0, 2.0, 3.0, 4.0]), labels) - 1) < 1e-9, "Higher counts too."
    assert abs(shortcut(np.ones(4), labels) - 0.5) < 1e-9, "Equal values separate nothing: 0.5."


@exercise("03.4")
def _erased(erased):
    import torch

    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    given = images.clone()
    got = erased(images, 2, 3, 4)
    assert torch.equal(images, given), "Your function changed its input; work on a clone."
    inside = got[:, :, 2:6, 3:7]
    assert torch.allclose(inside, images.mean((2, 3), keepdim=True).expand_as(inside)), (
        "Inside the square stands the mean of the whole image, channel by channel."
    )
    got[:, :, 2:6, 3:7] = images[:, :, 2:6, 3:7]
    assert torch.equal(got, images), "Outside the square nothing changes."


# --- Chapter 04: feature mimicking ---


@exercise("04.1")
def _where(where):
    import torch

    fea_t = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1).expand(3, 2, 4, 5)
    got = where(fea_t, torch.zeros(3, 2, 4, 5))
    assert got.shape == (3, 4, 5), f"The map's shape is (3, 4, 5), not {tuple(got.shape)}."
    assert abs(float(got[0, 0, 0]) - 5) > 1e-6, "Average over the channels; yours is the sum."
    assert abs(float(got[0, 0, 0]) - 2.5) < 1e-6, "Square first, then average: (1² + 2²) / 2."


@exercise("04.2")
def _total(total):
    import torch

    fea_t = torch.zeros(1, 2, 2, 2, requires_grad=True)
    fea_s = torch.ones(1, 2, 2, 2, requires_grad=True)
    loss = total(torch.tensor(3.0), fea_t, fea_s, 0.5)
    value = torch.as_tensor(loss).detach().item()
    assert abs(value - 3.5) < 1e-6, f"3 + 0.5 · 1 is 3.5; yours gives {value:g}."
    loss.backward()
    assert fea_s.grad is not None, "The student's feature needs a gradient."
    assert fea_t.grad is None, "A gradient reaches the teacher; detach its feature."


@exercise("04.3")
def _unit(unit):
    import torch

    feature = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    feature[0, :, 1, 1] = 0
    got = unit(feature)
    assert got.shape == feature.shape, "The shape stays (B, C, h, w)."
    assert not torch.isnan(got).any(), "A zero vector gives 0 / 0; clamp the length from below."
    lengths = got.norm(dim=1)
    assert abs(float(lengths[1].mean()) - 1) < 1e-5, "The length along dim 1 is 1 everywhere."
    assert float(lengths[0, 1, 1]) == 0, "A zero vector stays zero."


@exercise("04.4")
def _freeze(freeze):
    from torch import nn

    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).train()
    got = freeze(network)
    assert got is network, "Return the network itself."
    assert not any(p.requires_grad for p in network.parameters()), "A parameter can still learn."
    assert not network[1].training, "In train mode its batch statistics still move; use eval()."


# --- Chapter 09: hybrid scoring ---


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
