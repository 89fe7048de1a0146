"""Arrays that are derived from files once, and then read from the cache as memory maps."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fmabs_lite.data.folder import DataError, beside, cache_dir, keeping


def cached(
    sources: Sequence[Path], what: str, make: Callable[[], np.ndarray | Iterable[np.ndarray]]
) -> np.memmap:
    """The array that `make()` derives from the files `sources`, made once and kept on disk.

    `make` gives the array, or its rows one after the other and at least one; of rows, one is in
    memory at a time. `what` names the array and its settings. A source that changes in name, size
    or time, or a cache file that cannot be opened in full, has the array made again. Raises
    DataError for a source that is not there.
    """
    path = cache_dir() / "frames" / f"{_key(sources, what)}.npy"
    if path.exists():
        try:
            return np.load(path, mmap_mode="r")
        except (ValueError, OSError, EOFError):
            pass  # damaged; made again below
    made = make()
    if isinstance(made, np.ndarray):
        _write(path, lambda file: np.save(file, made))
    else:
        rows = iter(made)
        first = next(rows)  # here and not below: a source that cannot be opened is no full disk
        _write(path, lambda file: _save_rows(file, first, rows))
    return np.load(path, mmap_mode="r")


def _key(sources: Sequence[Path], what: str) -> str:
    parts = [what]
    for source in sources:
        try:
            stat = source.stat()
        except OSError as error:  # a link that leads nowhere is listed like a file
            raise DataError(
                f"{source} cannot be read: {error.strerror}. Check that it is there and yours to "
                "read."
            ) from error
        parts.append(f"{os.path.abspath(source)} {stat.st_size} {stat.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _write(path: Path, save: Callable[[BinaryIO], None]) -> None:
    """Let `save` write a file, whole or not at all."""
    with keeping("decoded data", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = beside(path)
        try:
            with unfinished.open("xb") as file:
                save(file)
            os.replace(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


def _save_rows(file: BinaryIO, first: np.ndarray, others: Iterator[np.ndarray]) -> None:
    """What `np.save` would write of all rows together.

    The header, which says how many there are, is written once more at the end: numpy leaves room
    in it for 21 digits.
    """
    _save_header(file, first, 1)
    file.write(np.ascontiguousarray(first))
    count = 1
    for row in others:
        file.write(np.ascontiguousarray(row))
        count += 1
    file.seek(0)
    _save_header(file, first, count)


def _save_header(file: BinaryIO, row: np.ndarray, count: int) -> None:
    kind = np.lib.format.dtype_to_descr(row.dtype)
    about = {"descr": kind, "fortran_order": False, "shape": (count, *row.shape)}
    np.lib.format.write_array_header_1_0(file, about)
