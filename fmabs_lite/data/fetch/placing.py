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
    record,
    remove_if_empty,
    sha256,
    unpack,
)
from fmabs_lite.data.folder import listing


def get(archive: Archive, wanted: Sequence[str], target: Path, data: Path) -> None:
    """Download `archive`, and move the folders named in `wanted` out of it into `target`."""
    clear_unpacked(data)
    checksums = data / "checksums.json"
    packed = download(archive, data / "downloads", checksums)
    take_packed(packed, archive.unpacked, wanted, target, data)
    record(archive, packed, sha256(packed), checksums)
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
        digest = check(archive, source, data / "checksums.json")
        take_packed(source, archive.unpacked, wanted, target, data)
        record(archive, source, digest, data / "checksums.json")
    else:
        raise FetchError(f"--from {source}: there is no such file or folder")


def take_packed(
    packed: Path, unpacked: int, wanted: Sequence[str], target: Path, data: Path
) -> None:
    """Unpack beside the data, then move whole folders: a killed run leaves no half of one.

    `unpacked` is the size of the contents in bytes, 0 where it is not known.
    """
    clear_unpacked(data)
    size = max(unpacked, packed.stat().st_size)  # pictures and videos pack badly
    for disk_used in (data, target):  # the set may lie on a disk of its own
        need_space(disk_used, size)
    try:
        unpack(packed, data / "downloads" / "unpacked")
        place_found(data / "downloads" / "unpacked", wanted, target, "move")
    finally:
        clear_unpacked(data)
        remove_if_empty(data / "downloads")


def clear_unpacked(data: Path) -> None:
    """Remove what a run that failed, or was killed, had unpacked: the next one needs the room."""
    shutil.rmtree(data / "downloads" / "unpacked", ignore_errors=True)


def place_found(source: Path, wanted: Sequence[str], target: Path, how: str) -> None:
    """Place every folder in `wanted` that lies within four levels of `source`.

    Raises FetchError when none of them does.
    """
    found = find(source, wanted)
    if not found:
        raise FetchError(f"{source} holds no folder named {' or '.join(wanted)}")
    for name, folder in found.items():
        if not (target / name).exists():
            place(folder, target / name, how)


def find(root: Path, names: Sequence[str], levels: int = 4) -> dict[str, Path]:
    """The folders called `names` below `root`, the nearest of each name.

    Folders that systems leave behind are not looked into: a zip made on a Mac has a second
    `screw`, in `__MACOSX`, without a picture in it. Raises FetchError where two are equally near.
    """
    found: dict[str, Path] = {}
    folders = [root]
    for _ in range(levels):
        below = [path for folder in folders for path in listing(folder) if path.is_dir()]
        near = [path for path in below if path.name in names and path.name not in found]
        for path in near:
            if (other := found.setdefault(path.name, path)) != path:
                raise FetchError(f"{other} and {path} have one name: pass the right one to --from")
        folders = [path for path in below if path.name not in names]
        if len(found) == len(set(names)):
            break  # a large set need not be searched to its bottom
    return found


def place(source: Path, target: Path, how: str) -> None:
    """Put the folder `source` at `target`, whole or not at all; `how`: move, copy or link."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if how == "link":
        target.symlink_to(source.resolve(), target_is_directory=True)
        return
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)  # left by a run that was killed while copying
    try:
        with disk(target):
            shutil.move(source, fresh) if how == "move" else shutil.copytree(source, fresh)
            os.replace(fresh, target)
    except shutil.Error as error:  # many files' reasons; a full disk among them
        reason = error.args[0][0][-1] if isinstance(error.args[0], list) else error
        raise FetchError(f"{target} was not filled ({reason}): mend that, run again") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
