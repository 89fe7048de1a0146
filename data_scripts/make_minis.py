#!/usr/bin/env python
"""Draw the embedded data sets into a folder: Mini- MVTec, Avenue, Ped2, Shanghai and DTD.

The chapters draw them by themselves when they are given no data; this script is for looking at
them, for another seed, or for use elsewhere. About 80 MB.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from fmabs_lite.data.drawn.minis import draw_minis


def main(arguments: list[str] | None = None) -> int:
    """Draw beside the target, then rename, so that a killed run leaves no half-drawn folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other pictures (0)")
    options = parser.parse_args(arguments)
    if options.seed < 0:
        parser.error(f"--seed {options.seed}: give a number from 0 up")
    out = options.out.resolve()
    if out.exists():
        parser.error(f"--out {out}: exists already; name a new folder or remove that one first")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as unfinished:
            draw_minis(Path(unfinished) / out.name, options.seed, progress=True)
            (Path(unfinished) / out.name).rename(out)
    except OSError as error:
        print(f"make_minis: {error}", file=sys.stderr)
        return 1
    print(f"drawn into {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
