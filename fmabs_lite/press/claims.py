"""Who may run a chapter or write a file: a lock that is taken back when its holders are dead."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

BRIEF = 60.0  # seconds that who wants to write a file waits for somebody else who writes it


class CellError(ValueError):
    """A cell that could not be run: the message says what went wrong, and where."""


class BusyError(ValueError):
    """Somebody else is writing there: the message says who, and what to do."""


@contextmanager
def hold(place: Path, work: str, patience: float = 0.0) -> Iterator[tuple[int, ...]]:
    """Claim a place that must be mine, such as a chapter's folder, for as long as the block lasts.

    Gives what `execute_chapter` hands on: the claim's file descriptor. Where the file system keeps
    no locks, it says so and gives none: one process alone needs no claim.

    Args:
        place: see `claim`.
        work: what is done there, in words: "the run of 10_draem".
    Raises:
        BusyError: if somebody else still has it after `patience` seconds; it names the process.
    """
    with ExitStack() as stack:
        try:
            held = stack.enter_context(claim(place, patience))
        except CellError:
            _tell_no_locks(place.parent)
            yield ()
            return
        if held is None:
            raise BusyError(
                f"{_holder(place)} is at work on {work}; wait until it has ended, or end it, and "
                "start again"
            )
        yield (held,)


@cache  # once for all chapters
def _tell_no_locks(folder: Path) -> None:
    print(f"{folder} is on a file system that keeps no locks: start one of these at a time.",
          file=sys.stderr)  # fmt: skip


@contextmanager
def claim(folder: Path, patience: float = 0.0) -> Iterator[int | None]:
    """Claim a cell, or another folder or file, while the block lasts; wait for it if asked to.

    Gives the claim's file descriptor, or None if somebody else has it. A process that gets the
    descriptor shares the claim: it ends when the last of them has closed it, or is dead. Its file,
    `claims/<name>` beside what is claimed, stays; it says who claimed it last.

    Raises CellError where the file system keeps no locks.
    """
    path = claim_file(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        if not _locked(file, path, patience):
            yield None
            return
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield file.fileno()


def claim_file(folder: Path) -> Path:
    """The file on which a cell's claim is a lock: outside its folder, which may be cleared."""
    return folder.parent / "claims" / folder.name


def _locked(file: Any, path: Path, patience: float) -> bool:
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.1)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
                raise
            raise CellError(
                f"{path} is on a file system that keeps no locks ({error.strerror}), so two "
                "processes could run the same; work in a checkout on one that does (Lustre: "
                "mounted with the option flock)"
            ) from None


def claimed_by(folder: Path) -> str:
    """Who runs a cell now, in words; nothing if nobody does."""
    if not claim_file(folder).exists():
        return ""
    with claim(folder) as held:
        return "" if held is not None else _holder(folder)


def _holder(folder: Path) -> str:
    return claim_file(folder).read_text().strip() or "somebody"
