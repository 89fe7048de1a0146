"""What every data set that can be fetched has in common: where it is, what is in it, its check."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fmabs_lite.data.fetch import placing
from fmabs_lite.data.fetch.archive import Archive, FetchError, megabytes
from fmabs_lite.data.folder import DataFolder

Contents = dict[Archive, tuple[str, ...]]


class Source:
    """A data set that can be fetched. One module beside this one describes each.

    key: its name, as in `fmabs_lite.data.folder.NAMES`. licence: whose it is, and what to cite.
    notes: the official page, and what could not be verified. contents: the folders taken out of
    each archive. also: other archives that --from knows. by_hand: what to do where no address
    is known.
    """

    key: str
    licence: str
    notes: str
    contents: Contents
    also: tuple[Archive, ...] = ()
    by_hand: str = ""

    def chosen(self, categories: Sequence[str]) -> Contents:
        """The archives of these categories. Raises FetchError where the set has none."""
        if categories:
            raise FetchError(f"--category {categories[0]}: {self.key} has none; leave it out")
        return self.contents

    def target(self, data: Path) -> Path:
        """The set's folder in the data folder: the one that is there, or the one to make."""
        here = DataFolder(data)
        return getattr(here, self.key) if here.has(self.key) else data / self.key

    def plan(self, missing: Contents, target: Path, source: Path | None, mirror: str) -> None:
        """Say what a run would do, without asking the network anything."""
        names = ", ".join(names_in(missing)) or "nothing, all is there"
        archives = [archive.behind(mirror) for archive in missing]
        if source:
            print(f"would be taken from {source}: {names}")
        elif all(archive.urls for archive in archives):
            print(f"would be downloaded, into {target}: {names}")
            for archive in archives:
                tell(archive)
            print(f"about {megabytes(sum(archive.size for archive in archives))} in all")
        else:
            print(f"no address is known for {names}.\n{self.by_hand}")

    def get(self, missing: Contents, target: Path, data: Path, mirror: str) -> None:
        """Download the archives, and place the folders that are missing."""
        for archive, names in missing.items():
            if not archive.behind(mirror).urls:
                raise FetchError(f"{target} has no {' and no '.join(names)}.\n{self.by_hand}")
            placing.get(archive.behind(mirror), names, target, data)

    def take(self, source: Path, wanted: list[str], target: Path, data: Path, how: str) -> None:
        """Use a folder or an archive that the reader has; `how`: "link" or "copy" a folder."""
        source = self.locate(source, wanted)
        known = {archive.name: archive for archive in (*self.contents, *self.also)}
        archive = known.get(source.name, Archive(source.name))
        placing.take(archive, source, wanted, target, data, how)

    def locate(self, source: Path, wanted: list[str]) -> Path:
        """Where in or around `source` the wanted folders are, or the archive that holds them."""
        return source

    def report(self, target: Path, names: list[str]) -> None:
        """Read all of it as the chapters will, and print what there is.

        Raises DataError for what is missing, damaged or inconsistent.
        """
        raise NotImplementedError


class Videos(Source):
    """A set of videos.

    whole: how many "training" and "testing" videos the publisher's set has, and where that is
    known how many "frames" the testing ones, how many of them "abnormal".
    """

    title: str
    whole: dict[str, int]

    def videos(self, target: Path, size: tuple[int, int]) -> Any:
        """The set as the chapters read it, with `.train` and `.test`, at `size` = (H, W)."""
        raise NotImplementedError

    def report(self, target: Path, names: list[str]) -> None:
        print("decoding every video once, small, to see that all can be read; this takes a while")
        with throwaway_cache():
            videos = self.videos(target, size=(18, 32))
            clips = {"training": videos.train, "testing": videos.test}
            frames = {split: [len(clip) for clip in found] for split, found in clips.items()}
            for split, lengths in frames.items():
                due = self.whole[split]
                print(f"{split}: {len(lengths)} of {due} videos, {sum(lengths)} frames")
            abnormal = sum(int(clip.labels.sum()) for clip in videos.test)
            masks = sum(clip.masks is not None for clip in videos.test)
        print(f"labels: {abnormal} abnormal test frames; {masks} videos have pixel masks")
        found = {split: len(lengths) for split, lengths in frames.items()}
        found |= {"frames": sum(frames["testing"]), "abnormal": abnormal}
        differ = [f"{found[what]} of {due} {what}" for what, due in self.whole.items()
                  if found[what] != due]  # fmt: skip
        if differ:
            print(
                f"This is not the whole of {self.title} ({', '.join(differ)}): results on it are "
                "not those of the benchmark."
            )


def tell(archive: Archive) -> None:
    """What is known of an archive: its size, whether its checksum is, and its addresses."""
    known = "known" if archive.sha256 else "not known: recorded at first use"
    print(f"{archive.name}: about {megabytes(archive.size)}, SHA-256 {known}")
    for url in archive.urls:
        print(f"  {url}")


def names_in(contents: Contents) -> list[str]:
    """The folders of all archives, one after another."""
    return [name for names in contents.values() for name in names]


@contextmanager
def throwaway_cache() -> Iterator[None]:
    """Decode into a folder that goes away: frames this small are of no later use."""
    before = os.environ.get("FMABS_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FMABS_CACHE"] = folder
        try:
            yield
        finally:
            del os.environ["FMABS_CACHE"]
            if before is not None:
                os.environ["FMABS_CACHE"] = before
