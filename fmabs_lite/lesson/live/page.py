"""What live figures share: their pictures, numbers and script stand in the cell's output itself.

So a page needs no kernel, no network and no other file. A picture and the text are there without
JavaScript; controls are hidden until the script has found all that it needs. Each script sets up
all figures of its kind that stand above it and are not ready: none needs a name of its own.
"""

from __future__ import annotations

import base64
import json
from importlib.resources import files
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

BRIGHT = "#E69F00"  # of boxes and marked pixels; Okabe and Ito's, as in `plots.PALETTE`
# Text is outside of the SVG, which is stretched: its letters keep their size on a phone.
STYLE = """\
.live { margin: 1em 0; }
.live [hidden] { display: none !important; }
.live svg { display: block; width: 100%; overflow: visible; }
.live svg * { vector-effect: non-scaling-stroke; }
.live .line { fill: none; stroke: currentColor; stroke-width: 1.5; }
.live .dot { fill: none; stroke: #D55E00; stroke-linecap: round; stroke-width: 11; }
.live .frame { fill: none; stroke: currentColor; stroke-opacity: .4; }
.live p { font-size: .9rem; line-height: 1.4; margin: .3em 0; }
.live label { align-items: center; display: flex; gap: 1em; }
.live input { accent-color: currentColor; flex: 1; height: 44px; margin: 0; min-width: 0;
  outline-offset: -2px; }
.live button { background: transparent; border: 1px solid currentColor; border-radius: 4px;
  color: inherit; font: inherit; height: 44px; min-width: 5.5em; }
.live .spoken { clip-path: inset(50%); height: 1px; overflow: hidden; position: absolute;
  white-space: nowrap; width: 1px; }
@media print { .live .on-screen { display: none !important; } }
"""


def script(name: str) -> str:
    """The text of a script file beside this module."""
    return files("fmabs_lite.lesson.live").joinpath(name).read_text(encoding="utf-8")


def block(data: Any) -> str:
    """A block of JSON; no text in it can end the block."""
    told = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return f'<script type="application/json">{told.replace("<", chr(92) + "u003c")}</script>'


def webp(picture: np.ndarray, **options: Any) -> bytes:
    """A picture, uint8 (H, W) or (H, W, 3), as the bytes of a WebP file."""
    file = BytesIO()
    Image.fromarray(picture).save(file, "webp", **options)
    return file.getvalue()


def address(file: bytes) -> str:
    """A WebP file as an address that holds all of it."""
    return "data:image/webp;base64," + base64.b64encode(file).decode()


def tiled(pictures: np.ndarray, columns: int) -> np.ndarray:
    """Pictures (N, H, W) or (N, H, W, 3) side by side, row by row; the rest is black."""
    rows = -(-len(pictures) // columns)
    rest = np.zeros((rows * columns - len(pictures), *pictures.shape[1:]), pictures.dtype)
    grid = np.concatenate([pictures, rest]).reshape(rows, columns, *pictures.shape[1:])
    height, width = pictures.shape[1:3]
    return grid.swapaxes(1, 2).reshape(rows * height, columns * width, *pictures.shape[3:])


def path(points: np.ndarray) -> str:
    """An SVG path through points (N, 2), broken where one is NaN."""
    drawn, pen = [], "M"
    for x, y in points:
        if np.isnan(y):
            pen = "M"
        else:
            drawn.append(f"{pen}{x:.4g} {y:.4g}")
            pen = "L"
    return "".join(drawn)


def show(html: str, text: str) -> None:
    """Display a figure; `text` stands where HTML is not shown."""
    from IPython.display import display

    display({"text/html": html, "text/plain": text}, raw=True)
