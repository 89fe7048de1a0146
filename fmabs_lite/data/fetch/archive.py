"""Archives over HTTP: resumed, checked by SHA-256, unpacked without leaving their folder.

Nothing here knows a data set.
"""

from __future__ import annotations

import errno
import hashlib
import json
import lzma
import os
import shutil
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

import requests
from requests.adapters import HTTPAdapter
from tqdm.auto import tqdm
from urllib3.util.retry import Retry

CHUNK = 1 << 16  # bytes read at a time; what a break can lose
TRIES = 5  # attempts in a row that bring less than CHUNK, before an address is given up
TIMEOUT = (10, 60)  # seconds to connect, seconds of silence
PAUSE = 1.0  # seconds before an attempt is repeated; doubles each time


class FetchError(OSError):
    """A download, a check or an unpacking failed; the message names the file and the remedy."""


class DiskFull(FetchError):
    """Too little space: another address would not help."""


@dataclass(frozen=True)
class Archive:
    """One file to fetch. `urls`: the official address first, older ones behind it."""

    name: str
    urls: tuple[str, ...] = ()
    sha256: str = ""  # "": not known, so recorded at first use
    size: int = 0  # bytes, about: for the plan
    unpacked: int = 0  # bytes, about: for the look at the disk; 0 where it is not more than `size`

    def behind(self, mirror: str) -> Archive:
        """The same archive, tried at `mirror` (a file's or a folder's address) first."""
        if not mirror:
            return self
        first = mirror if mirror.endswith(self.name) else f"{mirror.rstrip('/')}/{self.name}"
        return replace(self, urls=(first, *self.urls))


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size else "size not known"


# --- checksums -----------------------------------------------------------------------------


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def recorded(checksums: Path) -> dict[str, dict]:
    """What `checksums.json` holds, by archive name; empty when there is none yet."""
    try:
        return json.loads(checksums.read_text()) if checksums.exists() else {}
    except ValueError as error:
        raise FetchError(f"{checksums} is not JSON ({error}): delete it and run again") from error


def check(archive: Archive, file: Path, checksums: Path) -> str:
    """The SHA-256 of `file`, once compared with the known one or that of the first use.

    Raises FetchError where they differ.
    """
    expected = archive.sha256 or recorded(checksums).get(archive.name, {}).get("sha256", "")
    found = sha256(file)
    if expected and found != expected:
        source = "the package's list" if archive.sha256 else str(checksums)
        raise FetchError(
            f"{file} is not the file it should be: SHA-256 {found}, expected {expected} ({source})"
        )
    return found


def record(archive: Archive, file: Path, digest: str, checksums: Path) -> None:
    """Note the SHA-256 of an archive whose contents are in use; a refused one's would bar others.

    What was noted at first use, later downloads of that name are compared with.
    """
    entry = {
        "sha256": digest,
        "bytes": file.stat().st_size,
        "known from": "the package's list" if archive.sha256 else "first use",
    }
    write_text(checksums, json.dumps({**recorded(checksums), archive.name: entry}, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write whole or not at all: a killed run never leaves half a file under `path`."""
    with disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(path.name + ".new")
        fresh.write_text(text)
        os.replace(fresh, path)


# --- download ------------------------------------------------------------------------------


def download(archive: Archive, folder: Path, checksums: Path) -> Path:
    """Fetch `archive` into `folder`, from the first address that gives the right file.

    What was received stays in `<name>.part` when the run is interrupted, and the next run goes
    on from there.

    Raises FetchError (every address failed: each with its reason) or DiskFull.
    """
    target = folder / archive.name
    if target.exists():
        try:
            check(archive, target, checksums)
        except FetchError as error:
            raise FetchError(f"{error}. Delete {target} and run again.") from error
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{archive.name}.part"
    failures = []
    with _session() as session:
        for url in archive.urls:
            try:
                _fetch(session, url, archive, part)
                _check_part(archive, part, checksums)
            except DiskFull:
                raise
            except (requests.RequestException, FetchError) as error:
                failures.append(f"  {url}\n    {_reason(error)}")
                continue
            os.replace(part, target)
            _state(part).unlink(missing_ok=True)
            return target
    remove_if_empty(folder)
    left = f"{megabytes(part.stat().st_size)} are kept in {part}. " if part.exists() else ""
    raise FetchError(
        f"{archive.name} could not be downloaded:\n" + "\n".join(failures) + f"\n{left}"
        "Run again to go on. If an address has moved, download the file in a browser and pass it "
        "with --from FILE, or name another address with --mirror URL."
    )


def _reason(error: Exception) -> str:
    """What went wrong, without the address and the objects that requests wraps around it."""
    inner = getattr(error.args[0], "reason", None) if error.args else None
    return str(inner).split(": ", 1)[-1] if inner else str(error)


def _session() -> requests.Session:
    """A session that repeats a request when the answer is that the server is busy (429, 5xx)."""
    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"  # bytes as stored, so that ranges add up
    busy = (429, 500, 502, 503, 504)
    retry = Retry(total=3, connect=0, read=0, backoff_factor=PAUSE, status_forcelist=busy)
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def _fetch(session: requests.Session, url: str, archive: Archive, part: Path) -> None:
    """Fill `part` from one address, resuming after every break."""
    idle = 0
    while True:
        before = _size(part)
        try:
            _receive(session, url, archive, part)
            return
        except requests.HTTPError:
            raise  # 404 and its kin: asking again will not help
        except requests.RequestException:
            idle = 0 if _size(part) - before >= CHUNK else idle + 1
            if idle == TRIES:
                raise
            time.sleep(PAUSE * 2 ** (idle - 1) if idle else 0)


def _receive(session: requests.Session, url: str, archive: Archive, part: Path) -> None:
    """One request: append to `part` what is missing, or start anew if the server starts anew."""
    start, headers = _resume(url, archive, part)
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416:  # nothing lies beyond `start`
            if answer.headers.get("Content-Range") == f"bytes */{start}":
                return
            part.unlink()
            raise requests.ConnectionError("the server has another file by now; starting anew")
        answer.raise_for_status()
        if answer.status_code != 206:
            start = 0
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink()
            raise requests.ConnectionError("the server sent another part than was asked for")
        length = int(answer.headers.get("Content-Length", 0))
        total = start + length if length else 0
        need_space(part.parent, length + max(total, archive.unpacked))  # the rest, its contents
        _remember(part, url, answer)
        with disk(part), part.open("ab" if start else "wb") as file:
            with _bar(archive.name, start, total) as bar:
                for chunk in answer.iter_content(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
    if total and _size(part) != total:
        raise requests.ConnectionError(f"{_size(part)} of {total} bytes came")


def _bar(name: str, start: int, total: int) -> tqdm:
    # disable=None: no bar where the output is a file
    units = dict(unit="B", unit_scale=True)
    return tqdm(desc=name, initial=start, total=total or None, disable=None, **units)


def _resume(url: str, archive: Archive, part: Path) -> tuple[int, dict[str, str]]:
    """Where to go on, and the headers that ask for it.

    Another address's beginning is used only when a known checksum will judge the whole.
    """
    state = json.loads(_state(part).read_text()) if _state(part).exists() else {}
    start = _size(part)
    same = state.get("url") == url
    if not start or not (same or archive.sha256):
        return 0, {}
    headers = {"Range": f"bytes={start}-"}
    if same and state.get("validator"):
        headers["If-Range"] = state["validator"]
    return start, headers


def _remember(part: Path, url: str, answer: requests.Response) -> None:
    """Keep what proves, next time, that the server's file is still the same one."""
    tag = answer.headers.get("ETag", "")
    validator = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")
    write_text(_state(part), json.dumps({"url": url, "validator": validator}))


def _check_part(archive: Archive, part: Path, checksums: Path) -> None:
    """Check a complete `part`; a wrong one goes, or every later run would go on from it."""
    try:
        check(archive, part, checksums)
    except FetchError as error:
        part.unlink()
        _state(part).unlink(missing_ok=True)
        raise FetchError(f"{error}: altered on the way, or replaced there; deleted") from error


def _state(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


# --- disk ----------------------------------------------------------------------------------


def need_space(folder: Path, size: int) -> None:
    """Raise DiskFull when `folder` (or the nearest parent that exists) has less than `size`."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < size:
        raise DiskFull(
            f"{folder}: {megabytes(size)} are needed and {megabytes(free)} are free. Free some "
            "space, or choose another folder with --to, and run again; nothing is lost."
        )


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Turn the system's "no space left" into DiskFull, which names the file."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(
            f"{path}: the disk is full. Free some space and run again; what was received so far "
            "is kept."
        ) from error


def remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


# --- unpacking -----------------------------------------------------------------------------

# RuntimeError: zipfile's word for a password, and for a compression that it does not know
BROKEN = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, RuntimeError)
# of OSError: a decoder's complaint has no number, the others are of a file where a folder must be
OWN_FAULTS = (None, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


def unpack(archive: Path, into: Path) -> None:
    """Unpack a .tar[.gz|.xz|.bz2] or .zip into the folder `into`, which is made anew.

    Only plain files and folders are written, with this user's own permissions: the archive's
    modes are not applied (MVTec's folders are read-only, which breaks a later move), and links
    never, so no file can land outside `into`. Names may have backslashes, as some Windows
    programs write them.

    Raises FetchError for a member with an absolute name or `..`, a link, a device, and for an
    archive that cannot be read, is damaged or encrypted; DiskFull where there is no room.
    """
    if into.exists():
        shutil.rmtree(into)  # left by a run that was killed while unpacking
    into.mkdir(parents=True)
    try:
        _write_members(archive, into)
    except FetchError:
        raise
    except (*BROKEN, OSError) as error:
        if getattr(error, "errno", None) not in OWN_FAULTS:
            raise
        reason = str(error).partition("\n")[0]
        raise FetchError(
            f"{archive} cannot be unpacked ({reason}): delete it and download it again, or unpack "
            "it with another program and pass the folder with --from"
        ) from error


def _write_members(archive: Path, into: Path) -> None:
    packed = zipfile.is_zipfile(archive)
    members = _zip_members(archive, into) if packed else _tar_members(archive)
    for name, source in tqdm(members, desc=f"unpacking {archive.name}", disable=None):
        target = into / name.replace("\\", "/")
        with disk(target), source:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                shutil.copyfileobj(source, file, CHUNK)


def _tar_members(archive: Path) -> Iterator[tuple[str, BinaryIO]]:
    with tarfile.open(archive) as tar:
        for member in tar:
            _refuse(archive, member.name, plain=member.isfile() or member.isdir())
            if member.isfile():
                yield member.name, tar.extractfile(member)
        while tar.fileobj.read(CHUNK):  # the checksum of a .gz comes at its very end
            pass


def _zip_members(archive: Path, into: Path) -> Iterator[tuple[str, BinaryIO]]:
    with zipfile.ZipFile(archive) as packed:
        need_space(into, sum(member.file_size for member in packed.infolist()))
        for member in packed.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            _refuse(archive, member.filename, plain=kind in (0, stat.S_IFREG, stat.S_IFDIR))
            if not member.filename.endswith(("/", "\\")):
                yield member.filename, packed.open(member)


def _refuse(archive: Path, name: str, plain: bool) -> None:
    """Raise for a member that is no plain file or folder, or whose name leads out of it."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    outside = posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts
    if plain and not outside:
        return
    why = "its name leads out of the folder" if outside else "it is a link or a device"
    raise FetchError(
        f"{archive}: the member {name!r} is refused ({why}). The official archive has no such "
        "member: delete this file and download it from the official page."
    )
