"""Numbers of a record, as a line of `book/ledger.yml` or `open_questions.yml` names them.

A line that names what is not there is an error that says which line, and what there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fmabs_lite.lesson.cells import paired
from fmabs_lite.lesson.records import Record


class LedgerError(ValueError):
    """A line that fits no printed cell, or no number of a record."""


@dataclass(frozen=True)
class Part:
    """A part of a record's results, as a line of a file asks for it.

    Args:
        at: the names that lead from the results to its rows. A row is a list with a dict for each
            seed, or a dict or a number where there is one seed.
        place: the line that asks, named in errors.
    """

    record: Record
    at: Sequence[str]
    place: str = ""

    @property
    def name(self) -> str:
        """Chapter and profile."""
        return f"{self.record.chapter}.{self.record.profile}"

    @property
    def file(self) -> str:
        """The record's file name."""
        return f"{self.name}.json"

    @property
    def rows(self) -> Mapping[str, Any]:
        """Raises LedgerError for a part that the record does not have."""
        found = self.record.results
        for step in self.at:
            found = named(found, step, self._where)
        return found

    def numbers(self, row: str, key: str | None = None) -> tuple[float, ...]:
        """One number a seed of a row, in percent.

        Raises:
            LedgerError: for a part, row or key that the record does not have.
        """
        runs, where = named(self.rows, row, self._where), f"{self._where}, {row}"
        runs = runs if isinstance(runs, list) else [runs]
        return tuple(100 * (named(run, key, where) if key else run) for run in runs)

    def pair(
        self, row: str, other: str, key: str | None = None, other_key: str | None = None
    ) -> tuple[Sequence[float], Sequence[float]]:
        """The numbers of two rows of the seeds that both have; a row without seeds has one."""
        numbers = self.numbers(row, key), self.numbers(other, other_key or key)
        return paired(*numbers, self.record.results.get("seeds", {}), row, other)

    def best_trivial(self, key: str | None = None) -> float | None:
        """The highest of the rows that train nothing, in percent; None if none has the key."""
        runs = {row: run[0] if isinstance(run, list) else run for row, run in self.rows.items()}
        rows = [row for row, run in runs.items()
                if row.startswith("trivial") and (not key or key in run)]  # fmt: skip
        return max((self.numbers(row, key)[0] for row in rows), default=None)

    def value(self, name: str) -> Any:
        """A result or a parameter; "priors.0" is the first of `priors`, `samples` the number of
        samples trained on.
        """
        first, _, number = name.partition(".")
        found = named(self._values, first, self.place)
        return found[int(number)] if number else found

    def filled(self, template: str) -> str:
        """A text with results and parameters in place of their names in braces."""
        try:
            return template.format(**self._values)
        except (KeyError, IndexError) as error:
            text = f"{self.place}: the record has no {error} for {template!r}"
            raise LedgerError(text) from None

    @property
    def _where(self) -> str:
        return f"{self.place}: record {self.name}"

    @property
    def _values(self) -> dict[str, Any]:
        known = {**self.record.results, **self.record.parameters}
        if {"steps", "batch_size"} <= set(known):
            known["samples"] = known["steps"] * known["batch_size"]
        return known


def named(part: Any, name: str, where: str) -> Any:
    if not isinstance(part, Mapping) or name not in part:
        known = ", ".join(part) if isinstance(part, Mapping) else "no names here"
        raise LedgerError(f"{where}: there is no {name!r}; there are: {known}")
    return part[name]
