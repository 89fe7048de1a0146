"""What the papers call better, asked of the records (chapter 16)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fmabs_lite.lesson.chance import holm, paired_test, resampled
from fmabs_lite.lesson.ledger import records_asked
from fmabs_lite.lesson.parts import Part
from fmabs_lite.lesson.records import Record, book_yaml
from fmabs_lite.lesson.seeds import Difference, difference


class Claim(NamedTuple):
    """One "better" of the papers, asked of a record: points, exact p-value, Holm's p-value.

    `images` is the 95 % interval of the same points over test images, None where the record kept
    no scores of single images. `behind`: neither row is shown to beat the best without training.
    """

    says: str
    table: str
    gap: Difference
    p: float
    corrected: float
    images: tuple[float, float] | None
    behind: bool


def judge_claims(held: Mapping[str, Record] | None = None) -> list[Claim]:
    """Ask the records what the papers call better; what has no record is left out.

    The interval is Student's t over seeds. The p-values are of the exact paired test, the last
    ones corrected for the number of claims.

    Args:
        held: records by chapter, to be taken in place of the committed ones.
    """
    book = book_yaml("ledger.yml")
    records, found = records_asked(book, held), []
    for claim in book["claims"]:
        setup = book["setups"][claim["setup"]]
        record = records[claim["setup"]]
        if record:
            part = Part(record, setup["at"], f"book/ledger.yml, {claim['says']}")
            found.append(judge(claim, part))
    known = [claim for claim in found if claim]
    corrected = holm([claim.p for claim in known])
    return [claim._replace(corrected=float(p)) for claim, p in zip(known, corrected, strict=True)]


def judge(claim: Mapping[str, Any], part: Part) -> Claim | None:
    """One claim, its p-value not corrected; None where the record has a single seed."""
    better, than = np.array(part.pair(claim["better"], claim["than"], claim["key"])) / 100
    if len(better) < 2:
        return None
    cheap = part.best_trivial(claim["key"])
    behind = cheap is not None and all(
        difference(row, [cheap / 100]).low <= 0 for row in (better, than)
    )
    gap, p = difference(better, than), paired_test(better, than)
    images = gap_over_images(part.record, claim)
    says, printed_in = claim["says"], claim["table"]
    return Claim(says, printed_in, gap, p, p, images, behind)


def gap_over_images(record: Record, claim: Mapping[str, str]) -> tuple[float, float] | None:
    """95 % interval of the points between two rows of a record, by a bootstrap over test images.

    Each row is the mean of its seeds; both are measured on the same drawn images.

    Args:
        claim: with "better" and "than", rows, and "key"; only image AUROC ("image") has scores.
    """
    kept = record.results.get("scores", {})
    if claim["key"] != "image" or not {claim["better"], claim["than"]} <= set(kept):
        return None
    labels = record.results["labels"]
    better, than = (
        np.mean([resampled(scores, labels) for scores in kept[claim[row]]], axis=0)
        for row in ("better", "than")
    )
    low, high = 100 * np.percentile(better - than, [2.5, 97.5])
    return float(low), float(high)
