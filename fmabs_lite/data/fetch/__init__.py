"""Fetch a data set: download or take it, check it, unpack it, and read all of it once.

    fmabs-lite data --fetch mvtec --category screw --to ~/data

`archive` downloads, compares SHA-256 and unpacks; `placing` moves whole folders to their place;
`mvtec`, `avenue`, `dtd` and `shanghaitech` know each a data set: its addresses, checksums and
counts, and which of them could not be verified. UCSD Ped2 has a page of its own, and no source
here.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from fmabs_lite.data.fetch.archive import FetchError
from fmabs_lite.data.fetch.avenue import AVENUE
from fmabs_lite.data.fetch.dtd import TEXTURES
from fmabs_lite.data.fetch.mvtec import MVTEC
from fmabs_lite.data.fetch.shanghaitech import CAMPUS
from fmabs_lite.data.fetch.source import Source, names_in
from fmabs_lite.data.folder import cache_dir, expanded

__all__ = ["SOURCES", "FetchError", "fetch", "source_of"]

SOURCES = {source.key: source for source in (MVTEC, AVENUE, TEXTURES, CAMPUS)}


def source_of(name: str) -> Source:
    """The source of this name. Raises FetchError, naming all of them, if there is none."""
    if name not in SOURCES:
        raise FetchError(f"--fetch {name}: choose one of {', '.join(SOURCES)}")
    return SOURCES[name]


def fetch(
    name: str,
    to: Path | str = "",
    *,
    categories: Sequence[str] = (),
    source: Path | str = "",
    copy: bool = False,
    mirror: str = "",
    dry_run: bool = False,
) -> None:
    """Put a data set into the data folder `to`, unless it is there, and print what there is.

    Files go through `to`/downloads, their checksums stand in `to`/checksums.json. What an
    interrupted run has received, the next one goes on from.

    Args:
        name: a key of `SOURCES`.
        to: the data folder; "" is a folder `data` in the cache (`cache_dir`).
        categories: of MVTec AD, or "all"; none of them is the screw.
        source: a folder, or an archive, that is there already: nothing is downloaded.
        copy: copy a source folder, which otherwise is linked.
        mirror: an address to try first: the archive's, or that of a folder it is in.
        dry_run: say what would be done; fetch and write nothing.
    Raises:
        FetchError: when a download, a check or an unpacking failed.
        DataError: when what is there is incomplete or damaged.
    """
    kind = source_of(name)
    data = expanded(to or cache_dir() / "data").absolute()
    given = expanded(source) if source else None
    target = kind.target(data)
    chosen = kind.chosen(categories)
    left = {archive: tuple(folder for folder in folders if not (target / folder).exists())
            for archive, folders in chosen.items()}  # fmt: skip
    missing = {archive: folders for archive, folders in left.items() if folders}
    print(kind.licence)
    if dry_run:
        kind.plan(missing, target, given, mirror)
        return
    if missing and given:
        kind.take(given, names_in(missing), target, data, "copy" if copy else "link")
    elif missing:
        kind.get(missing, target, data, mirror)
    with warnings.catch_warnings():
        # The report reads small, to see that all can be read: there, masks may vanish.
        warnings.filterwarnings("ignore", ".* masks are empty at")
        kind.report(target, names_in(chosen))
    print(f'In {target}. Use it with: make book DATA={data}, or in a chapter data = "{data}"')
