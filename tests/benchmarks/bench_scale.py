"""How time and memory grow with what there is to do: maps, their size, frames, cells of a sweep.

Memory is what Python and NumPy have allocated at the most, beside what they were given: it does not
depend on the machine. All arrays are synthetic.
"""

import io
import os
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

import numpy as np

from fmabs_lite.data.cache import cached
from fmabs_lite.metrics import localization

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny_sweep import execute, make_sweep  # noqa: E402

GIB = 2**30


def growths(tiny: bool) -> Iterator[dict]:
    """What is measured: a title, what is counted, and by count seconds and the most bytes."""
    many = (2, 4) if tiny else (10, 30, 100, 300, 1000)
    yield growth(
        "Metrics, more maps", "maps of 256²", many, lambda n: localization(*maps_of(n, 256)),
        "Pixel AUROC, average precision and PRO.",
    )  # fmt: skip
    sides = (16, 32) if tiny else (64, 128, 256, 512, 1024)
    yield growth(
        "Metrics, larger maps", "pixels on a side", sides,
        lambda side: localization(*maps_of(30, side)), "The same of 30 maps.",
    )  # fmt: skip
    many = (2, 3) if tiny else (17, 170, 1700)
    yield growth(
        "Metrics, the largest set", "maps of 1024²", many,
        lambda n: localization(*maps_of(n, 32 if tiny else 1024)),
        "About as many maps as the whole test set of MVTec AD has images, at full size. They need "
        "not be in memory themselves.", most=4 * GIB,
    )  # fmt: skip
    many = (5, 10) if tiny else (100, 1000, 10_000, 40_000)
    yield growth(
        "A longer video", "frames of 64 × 96", many, keep_frames,
        "Into the cache, as a video's frames come out of the decoder, which is not timed.",
    )  # fmt: skip
    many = (2, 4) if tiny else (2, 8, 32, 128)
    yield growth(
        "More cells of a sweep", "cells", many, sweep_cells,
        "Cells that do nothing for a fiftieth of a second, in one worker: what is left is the "
        "sweep's own, on the clock.", clock=time.perf_counter, memory=False,
    )  # fmt: skip


def growth(
    title: str, x: str, many: tuple[int, ...], run: Callable[[int], object], what: str,
    most: int | None = None, clock: Callable[[], float] = time.process_time, memory: bool = True,
) -> dict:  # fmt: skip
    """Each point once, after the smallest, which warms up; `most` is a goal for the memory."""
    run(many[0])
    seconds, peaks = [], []
    for n in many:
        tracemalloc.start() if memory else None
        start = clock()
        run(n)
        seconds.append(float(f"{clock() - start:.4g}"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return {"title": title, "what": what, "x": x, "most": most, "counts": list(many),
            "seconds": seconds} | ({"bytes": peaks} if memory else {})  # fmt: skip


def maps_of(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps (count, side, side) of noise and masks of one defect each, which take hardly any memory.

    Each map begins 997 values after the one before it, in one row of values.
    """
    values = np.random.default_rng(0).standard_normal(997 * count + side**2, np.float32)
    strides = (4 * 997, 4 * side, 4)
    maps = np.lib.stride_tricks.as_strided(values, (count, side, side), strides, writeable=False)
    mask = np.zeros((side, side), bool)
    mask[side // 4 : side // 4 + side // 16, side // 4 : side // 4 + side // 16] = True
    return maps, np.broadcast_to(mask, maps.shape)


def keep_frames(count: int) -> None:
    """Put frames into a cache of their own, as `load_frames` does."""
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, FMABS_CACHE=folder):
        kept = cached([Path(__file__)], "", lambda: (frame(k) for k in range(count)))
        assert len(kept) == count


def frame(number: int) -> np.ndarray:
    return np.full((1, 64, 96), number % 256, np.uint8)


def sweep_cells(count: int) -> None:
    """Run a sweep of a throwaway book."""
    from fmabs_lite.press import sweep

    quiet = redirect_stdout(io.StringIO())
    with tempfile.TemporaryDirectory() as folder, patch.object(sweep, "visible_gpus", tuple), quiet:
        path = make_sweep(Path(folder), steps=count // 2)
        outcomes, _ = sweep.run_sweep(Path(folder), path, workers=1, execute=execute)
    assert [outcome.status for outcome in outcomes] == ["done"] * count
