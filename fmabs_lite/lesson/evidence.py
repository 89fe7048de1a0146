"""What rows of results say, asked by every chapter in the same way (built for chapter 04).

A row is a detector, with one dict of shares in [0, 1] for each seed. Chapters ask a committed
record (`evidence`), or their own run (`demonstration`), from which nothing is concluded.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from operator import getitem
from typing import Any

import numpy as np

from fmabs_lite.lesson.cells import paired
from fmabs_lite.lesson.planned import planned
from fmabs_lite.lesson.plots import say, table
from fmabs_lite.lesson.records import Record, load_record
from fmabs_lite.lesson.seeds import Difference, Interval, Ratio, difference, ratio, spread

TITLES = {
    "mvtec": "MVTec AD (CC BY-NC-SA 4.0)",
    "avenue": "CUHK Avenue",
    "ped2": "UCSD Ped2",
    "shanghaitech": "ShanghaiTech Campus",
    "dtd": "DTD",
}
MADE = ("static", "stripes")  # the categories of `data.static`, which read no folder
HYBRID = "hybrid_"  # begins the keys of what S_total finds
LONGER = "A detector that detects: more training, or a larger network."


class Evidence:
    """Rows of results, and every comparison that was asked of them.

    Args:
        rows: name of each detector to a list with one dict of shares for each seed; the trivial
            detectors first. A key that only some rows have is a dash in tables.
        columns: keys of those dicts to their titles. Where no key is named, the first is meant.
        basis: what the numbers rest on, in words.
    """

    def __init__(
        self, rows: Mapping[str, Sequence[dict]], columns: Mapping[str, str], basis: str = ""
    ):
        self.rows, self.columns, self.basis = rows, columns, basis
        self.seeds: Mapping[str, list] = {}  # of each row, where they differ (see `cells`)
        self.asked: dict[tuple[str, ...], Interval] = {}

    def each(self, row: str, key: str = "") -> np.ndarray:
        """One number for each seed.

        A row without a feature score is its own hybrid: asked for "hybrid_ap", it answers "ap".

        Raises:
            KeyError: for a row, or a key of it, that is not there; it names those that are.
        """
        if row not in self.rows:
            raise KeyError(f"there is no row {row!r}; there are {', '.join(self.rows)}")
        runs, key = self.rows[row], self._key(key)
        if key not in runs[0] and key.removeprefix(HYBRID) in runs[0]:
            key = key.removeprefix(HYBRID)
        if key not in runs[0]:
            raise KeyError(f"row {row!r} has no {key!r}; it has {', '.join(runs[0])}")
        return np.array([run[key] for run in runs], float)

    def mean(self, row: str, key: str = "") -> float:
        """Mean over the seeds."""
        return float(self.each(row, key).mean())

    def gap(self, row: str, other: str, key: str = "", other_key: str = "") -> Difference:
        """One row minus another, seed by seed, in points."""
        key = self._key(key)
        found = difference(*self._pair(row, other, key, other_key or key))
        return self.asked.setdefault((row, other, key, other_key or key), found)

    def ratio(self, row: str, other: str, key: str, other_key: str = "") -> Ratio:
        """One row over another, seed by seed, of numbers without a natural unit."""
        found = ratio(*self._pair(row, other, key, other_key or key))
        return self.asked.setdefault((row, other, key, other_key or key, "ratio"), found)

    def against(self, row: str, other: str, key: str = "") -> str:
        """How a row stands to another, in words."""
        gap = self.gap(row, other, key)
        return f"{gap.word} *{other}* ({gap.mean:+.1f} points, {gap.low:+.1f} to {gap.high:+.1f})"

    def table(
        self,
        first: str = "detector",
        rows: Iterable[str] | Mapping[str, str] = (),
        columns: Mapping[str, str] | None = None,
        note: str = "",
    ) -> None:
        """Display mean ± standard deviation over the seeds, in percent.

        Args:
            first: title of the column of names.
            rows: which, in this order; all when empty. A mapping gives each shown name its row.
            columns: other keys and titles than usual.
            note: a sentence more below the table.
        Of the usual columns, those that no row has are left out.
        """
        named = rows if isinstance(rows, Mapping) else {name: name for name in rows or self.rows}
        columns = columns or self._known(named.values())
        lines = [
            {first: shown}
            | {title: spread(self.each(row, key)) if key in self.rows[row][0] else "–"
               for key, title in columns.items()}
            for shown, row in named.items()
        ]  # fmt: skip
        several = any(len(self.rows[row]) > 1 for row in named.values())
        unit = "Percent, mean ± standard deviation over the seeds." if several else "Percent."
        table(lines, f"*{' '.join(filter(None, [unit, self.basis, note]))}*")

    def gaps(
        self,
        other: str,
        rows: Iterable[str] = (),
        columns: Mapping[str, str] | None = None,
        note: str = "",
    ) -> None:
        """Display the difference of each of `rows`, or of all, to the row `other`.

        Of the usual columns, those that one of them lacks are left out.
        """
        names = list(rows) or [name for name in self.rows if name != other]
        columns = columns or self._known([other, *names], all)
        gaps = {row: [self.gap(row, other, key) for key in columns] for row in names}
        lines = [
            {f"minus *{other}*": row}
            | {title: gap.short for title, gap in zip(columns.values(), found, strict=True)}
            for row, found in gaps.items()
        ]
        bold = [gap.settled for found in gaps.values() for gap in found]
        how = (f"Percentage points, 95 % interval over seeds; bold where zero lies outside: in "
               f"{sum(bold) or 'none'} of {len(bold)}.")  # fmt: skip
        table(lines, f"*{' '.join(filter(None, [how, note]))}*")

    def harder(self, row: str, others: Iterable[str]) -> None:
        """Display whether defects are harder to reconstruct for `row` than for each of `others`.

        A student that reconstructs all images worse has more error in defects too. So the error
        in defects must be larger, and what it is of the error on normal images as well (chapter
        05). Needs the mean squared errors "defect" and "sound" of `Study.measure`.
        """
        lines = []
        for other in others:
            inside, normal = (self.ratio(row, other, key) for key in ("defect", "sound"))
            shares = (self.each(name, "defect") / self.each(name, "sound") for name in (row, other))
            apart = self.asked.setdefault((row, other, "defect", "sound", "ratio"), ratio(*shares))
            lines.append({f"*{row}* over": other, "in defects": inside.short,
                          "on normal images": normal.short, "one by the other": apart.short,
                          "defects are": harder(inside, apart)})  # fmt: skip
        table(lines, "*Squared errors, one row's by another's, 95 % interval over seeds; bold "
                     "where one lies outside.*")  # fmt: skip

    def tally(self) -> str:
        """How many of all intervals asked for leave out no difference, and what chance gives."""
        many, outside = len(self.asked), sum(one.settled for one in self.asked.values())
        return (
            f"{many} intervals were read here. {outside} of them "
            f"leave{'s' * (outside == 1)} out the value of no "
            f"difference; if nothing at all were going on, {0.05 * many:.1f} would on average. "
            "Many share the same runs, so they come in groups."
        )

    def verdict(
        self,
        question: str,
        row: str,
        other: str,
        key: str = "",
        *,
        paper: float | None = None,
        beats: tuple[str, str] | None = None,
        change: str = LONGER,
        intended: int | None = None,
    ) -> None:
        """Display the box that answers a question by `row` minus `other`.

        Args:
            paper: the paper's difference, in points.
            beats: the unboosted detector and the trivial one. Unless the first is above the
                second by its interval, the question cannot be asked, and no interval follows.
            change: what would change the answer.
            intended: the number of seeds that was written down before the runs.
        """
        title = self.columns[self._key(key)]
        if beats and self.gap(*beats, key).low <= 0:
            answer, facts = self._unasked(*beats, key), []
        else:
            answer, facts = self._answer(row, other, key, paper)
        if intended:
            many = len(self._pair(row, other, self._key(key), self._key(key))[0])
            facts.append(f"*Planned beforehand:* {intended} seeds; {many} are in.")
        facts += [f"*It rests on:* {self.basis}", f"*What would change it:* {change}"]
        lines = [f"**{question}** {answer.format(title=title)}", "", *(f"- {f}" for f in facts)]
        say("\n".join(f"> {line}".rstrip() for line in lines))

    def _unasked(self, detector: str, trivial: str, key: str) -> str:
        ours, theirs = (spread(self.each(row, key)) for row in (detector, trivial))
        return (
            f"**Cannot be asked here.** In {{title}} *{detector}* is not shown to beat *{trivial}* "
            f"({ours} against {theirs} %): what is added to it tells nothing about the method."
        )

    def _answer(self, row: str, other: str, key: str, paper: float | None) -> tuple[str, list[str]]:
        gap = self.gap(row, other, key)
        word = {"above": "Yes", "below": "No, it hurts"}.get(gap.word, "Not shown")
        printed = f"; the paper prints {paper:+.1f}" if paper is not None else ""
        n = gap.decimals
        seen = (f"*Could we have seen it?* {gap.seeds} seeds tell a true difference of "
                f"{gap.smallest:.{n}f} points from zero, four times in five.")  # fmt: skip
        if paper and gap.smallest > abs(paper):
            needed = gap.seeds_for(paper) or "more than a thousand"
            seen += f" For one as large as the paper's, {needed} would be needed."
        return (
            f"**{word}.** In {{title}} *{row}* is {gap.word} *{other}*.",
            [f"*Measured:* {gap.mean:+.{n}f} points (95 % interval {gap.low:+.{n}f} to "
             f"{gap.high:+.{n}f}){printed}.", seen],
        )  # fmt: skip

    def _pair(self, row: str, other: str, key: str, other_key: str) -> tuple[list, list]:
        """The numbers of the seeds that both rows have."""
        numbers = self.each(row, key), self.each(other, other_key)
        return paired(*numbers, self.seeds, row, other)

    def _known(self, rows: Iterable[str], of: Callable = any) -> dict[str, str]:
        """The columns that one of the rows has, or `all` of them; an older record may lack some."""
        runs = [self.rows[row][0] for row in rows]
        return {
            key: title
            for key, title in self.columns.items()
            if of(key in run or key.removeprefix(HYBRID) in run for run in runs)
        }

    def _key(self, key: str) -> str:
        return key or next(iter(self.columns))


def harder(inside: Ratio, apart: Ratio) -> str:
    """In words: the factor of the error in defects, and that beyond the error on normal images."""
    if apart.low > 1:
        return "harder" if inside.low > 1 else "not harder in themselves, but stand out more"
    if apart.high < 1:
        return "easier" if inside.high < 1 else "not easier in themselves, but stand out less"
    return "not told apart"


class Held(Evidence):
    """The evidence of a committed record; `results` and `used` (its parameters) are as kept."""

    def __init__(self, record: Record, columns: Mapping[str, str], at: Sequence[str], on: str):
        super().__init__(reduce(getitem, at, record.results), columns, basis_of(record, on))
        self.record, self.results, self.used = record, record.results, record.parameters
        self.seeds = record.results.get("seeds", {})

    def primary(self, change: str = LONGER) -> None:
        """Display a box for each question that was written down before the runs (`planned`).

        Questions that cannot be asked for one and the same reason share a box, below the others.
        Last come those with a row that nobody has trained yet.
        """
        asked, unasked = planned(self.record.chapter), {}
        lacking = {one: {one.row, one.other, one.detector} - set(self.rows) for one in asked}
        for one in [one for one in asked if not lacking[one]]:
            beats = one.detector, max(one.trivial, key=lambda name: self.mean(name, one.key))
            if self.gap(*beats, one.key).low <= 0:
                unasked.setdefault((beats, one.key, one.seeds), []).append(one)
            else:
                self.verdict(*one[:4], paper=one.paper, beats=beats, change=change,
                             intended=one.seeds)  # fmt: skip
        for (beats, key, seeds), several in unasked.items():
            questions = " ".join(one.asks for one in several)
            self.verdict(questions, *several[0][1:3], key, beats=beats, change=change,
                         intended=seeds)  # fmt: skip
        for one in [one for one in asked if lacking[one]]:
            rows = " and ".join(f"*{row}*" for row in sorted(lacking[one]))
            say(f"> **{one.asks}** **Not trained yet.** The record lacks {rows}.")


def evidence(
    chapter: str,
    columns: Mapping[str, str],
    *,
    on: str = "",
    at: Sequence[str] = ("rows",),
    where: dict[str, Any] | None = None,
) -> Held:
    """The evidence in the committed record of a chapter, such as "10_draem".

    Args:
        columns: see `Evidence`.
        on: the data set the rows are about, such as "ped2"; the record's first if empty.
        at: where the rows stand in the record's results.
        where: of a record of cells, the values of those that are meant, as {"category": "tire"}.
    Raises:
        RecordError: if there is no record; it names the command that makes one.
    """
    return Held(load_record(chapter, where=where), columns, at, on)


def demonstration(
    rows: Mapping[str, Sequence[dict]], columns: Mapping[str, str], seeds: Sequence, steps: int
) -> Evidence:
    """The rows of the reader's own run, from which nothing is concluded."""
    many = f"{len(seeds)} seed" + "s" * (len(seeds) > 1)
    return Evidence(rows, columns, f"{many}, {steps} steps for every network. A demonstration: "
                    "the conclusions read a committed record.")  # fmt: skip


def basis_of(record: Record, on: str = "") -> str:
    """Data, size, schedule and seeds of a record, in one sentence."""
    used, name = record.parameters, on or next(iter(record.data))
    data = "synthetic data" if record.data[name] == "drawn" else TITLES[name]
    if used.get("category") in MADE:
        data = f"the made world *{used['category']}* of chapter 04"
    elif "category" in used and name == "mvtec":
        data = f"{used['category']} of {data}"
    size = used.get(f"{name}_size") or used.get("size")
    pixels = " × ".join(map(str, size)) if isinstance(size, list) else f"{size}²"
    samples = used["steps"] * used["batch_size"]
    return (
        f"{data[0].upper()}{data[1:]}, {pixels} pixels; {used['steps']:,} steps of "
        f"{used['batch_size']} ({samples:,} samples) for every network; "
        f"{len(used['seeds'])} seeds; profile {record.profile}."
    )


def pack(picture: np.ndarray, ending: str = ".png") -> str:
    """A picture as text that a record can hold: PNG or JPEG in base64, without slashes.

    Args:
        picture: uint8, or in [0, 1]; (H, W), or (H, W, 3) red, green, blue.
        ending: ".png", which keeps every value, or ".jpg".
    """
    import cv2

    if picture.dtype != np.uint8:
        picture = (255 * picture).round().astype(np.uint8)
    coded = cv2.imencode(ending, picture[..., ::-1] if picture.ndim == 3 else picture)[1]
    return base64.urlsafe_b64encode(coded).decode()


def unpack(packed: Any) -> Any:
    """The picture in a text of `pack`, uint8 (H, W) or (H, W, 3); of lists of texts, lists."""
    import cv2

    if not isinstance(packed, str):
        return [unpack(one) for one in packed]
    coded = np.frombuffer(base64.urlsafe_b64decode(packed), np.uint8)
    picture = cv2.imdecode(coded, cv2.IMREAD_UNCHANGED)
    return picture[..., ::-1] if picture.ndim == 3 else picture
