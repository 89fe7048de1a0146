"""Measure everything that is compared, and write book/speed.json for the book's last page.

    python tests/benchmarks/run.py [draem pair reading … scale where] [--rounds 9]

All rows of a comparison take turns in every round. Times are those of one thread on the processor,
without its waiting for others; the ratio is taken round by round. Data sets are the real ones in
the folder FMABS_DATA, else drawn. Without anomalib (pip install -e ".[peers]") there are only our
own rows. What is named replaces its part of the file. Nothing here is a pass mark.
"""

import argparse
import gc
import os
import platform
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from rounds import measure

from fmabs_lite.lesson.records import device, read_json, versions, write_json
from fmabs_lite.press.speed import STORED, table

PARTS = ("draem", "pair", "reading", "metrics", "boosted", "video")
SCALE = "scale"  # how time and memory grow: curves, and no comparisons
WHERE = "where"  # what a training step consists of: shares, and no comparisons
BOOK = Path(__file__).parents[2] / "book"


def measured(part: str, rounds: int, tiny: bool) -> list[dict]:
    """All comparisons of one file, printed as they are measured."""
    torch.manual_seed(0)
    rows = []
    for one in import_module(f"bench_{part}").comparisons(tiny):
        rows.append(measure(one, rounds) | {"part": part})
        print(f"\n{table(rows[-1])}", flush=True)
        one.runs.clear()  # networks of the published widths, before the next ones are built
        gc.collect()
    return rows


def ground(rounds: int) -> dict:
    """Where and with what everything is measured."""
    found = versions()
    for name in ("scipy", "anomalib"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            pass
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return {"rounds": rounds, "device": device(), "machine": machine, "versions": found}


def main(target: Path = BOOK / STORED) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "parts", nargs="*", choices=[[], *PARTS, SCALE, WHERE], help="all, if none is named"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tiny", action="store_true", help="only to see whether it runs")
    parser.add_argument("--into", type=Path, default=target)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.parts = asked.parts or [*PARTS, SCALE, WHERE]
    here = ground(asked.rounds)
    empty = {"comparisons": [], "growths": []}
    found = read_json(asked.into) if asked.into.exists() else empty | here
    for part in asked.parts:
        if part == SCALE:
            found["growths"] = list(import_module(f"bench_{SCALE}").growths(asked.tiny))
        elif part == WHERE:
            rows = import_module(f"bench_{WHERE}").rows(asked.rounds, asked.tiny)
            found[WHERE] = here | {"rows": list(rows)}
        else:
            others = [row for row in found["comparisons"] if row["part"] != part]
            found["comparisons"] = others + measured(part, asked.rounds, asked.tiny)
            found["comparisons"].sort(key=lambda row: PARTS.index(row["part"]))
            found |= here
        write_json(asked.into, found)


if __name__ == "__main__":
    main()
