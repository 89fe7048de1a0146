"""From an archive, or from a folder that the reader has, into the data folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from fmabs_lite.data.fetch.archive import (
    Archive,
    FetchError,
    check,
    disk,
    download,
    need_space,
    remove_if_empty,
    unpack,
)
from fmabs_lite.data.folder import listing


def get(archive: Archive, wanted: Sequence[str], target: Path, data: Path) -> None:
    """Download `archive`, and move the folders named in `wanted` out of it into `target`."""
    packed = download(archive, data / "downloads", data / "checksums.json")
    take_packed(packed, archive.unpacked, wanted, target, data)
    packed.unlink()
    remove_if_empty(data / "downloads")


def take(
    archive: Archive, source: Path, wanted: Sequence[str], target: Path, data: Path, how: str
) -> None:
    """Use what the reader already has: `source` is a folder, or the file of `archive`.

    A folder is put at its place as `how` says, "link" or "copy".
    """
    if source.is_dir():
        place_found(source, wanted, target, how)
    elif source.is_file():
        check(archive, source, data / "checksums.json")
        take_packed(source, archive.unpacked, wanted, target, data)
    else:
        raise FetchError(f"--from {source}: there is no such file or folder")


def take_packed(
    packed: Path, unpacked: int, wanted: Sequence[str], target: Path, data: Path
) -> None:
    """Unpack beside the data, then move whole folders: a killed run leaves no half of one.

    `unpacked` is the size of the contents in bytes, 0 where it is not known.
    """
    beside = data / "downloads" / "unpacked"
    need_space(data, max(unpacked, packed.stat().st_size))  # pictures and videos pack badly
    unpack(packed, beside)
    try:
        place_found(beside, wanted, target, "move")
    finally:
        shutil.rmtree(beside)
        remove_if_empty(data / "downloads")


def place_found(source: Path, wanted: Sequence[str], target: Path, how: str) -> None:
    """Place every folder in `wanted` that lies within three levels of `source`.

    Raises FetchError when none of them does.
    """
    found = find(source, wanted)
    if not found:
        raise FetchError(f"{source} holds no folder named {' or '.join(wanted)}")
    for name, folder in found.items():
        if not (target / name).exists():
            place(folder, target / name, how)


def find(root: Path, names: Sequence[str], levels: int = 3) -> dict[str, Path]:
    """The folders called `names` below `root`, the nearest of each name.

    Folders that systems leave behind are not looked into: a zip made on a Mac has a second
    `screw`, in `__MACOSX`, without a picture in it.
    """
    found: dict[str, Path] = {}
    folders = [root]
    for _ in range(levels):
        below = [path for folder in folders for path in listing(folder) if path.is_dir()]
        for path in below:
            if path.name in names:
                found.setdefault(path.name, path)
        folders = [path for path in below if path.name not in names]
    return found


def place(source: Path, target: Path, how: str) -> None:
    """Put the folder `source` at `target`, whole or not at all; `how`: move, copy or link."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if how == "link":
        target.symlink_to(source.resolve(), target_is_directory=True)
        return
    fresh = target.with_name(f".{target.name}.new")
    if fresh.exists():
        shutil.rmtree(fresh)  # left by a run that was killed while copying
    with disk(target):
        shutil.move(source, fresh) if how == "move" else shutil.copytree(source, fresh)
    os.replace(fresh, target)
