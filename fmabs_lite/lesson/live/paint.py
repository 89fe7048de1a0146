"""A part to paint a defect on, and what a small network and its teacher answer at every stroke.

The networks go along with the cell's output, in eight bits, and a small engine in `engine.js`
runs them in the reader's browser. So the figure needs no kernel, no server and no connection, on a
page as in a notebook.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from io import BytesIO
from math import floor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fmabs_lite.detector import Detector
from fmabs_lite.lesson.live import page
from fmabs_lite.lesson.live.engine import (
    Networks,
    answers,
    coded,
    gaussian,
    maps_of,
    networks_of,
    sent,
)
from fmabs_lite.metrics import auroc
from fmabs_lite.scoring import peak
from fmabs_lite.training import collect

# As in paint.js.
DARK, LIGHT, COPIED = 20, 235, 20
BRUSHES = {
    "dark": "dark",
    "light": "light",
    "copy": f"copy from {COPIED} pixels to the right",
    "mirror": "mirror image of the part",
}
NAMES = {
    "part": "the part",
    "reconstruction": "reconstruction",
    "error": "error",
    "inconsistency": "inconsistency²",
    "mask": "how far M moved",
}
HINT = "paint here, or move with the arrow keys and paint with the space bar"
CLOSE = 0.01  # how far weights of eight bits may move an error map, whose range is 0 to 1


@dataclass(frozen=True)
class Stroke:
    """A ready defect: discs of a radius in pixels along a line through points (x, y).

    Args:
        brush: "dark", "light", "copy" (of what lies 20 pixels to the right) or "mirror" (of what
            the part's mirror image has there).
    """

    brush: str
    radius: int
    points: Sequence[tuple[int, int]]

    def on(self, whole: np.ndarray) -> np.ndarray:
        """The part (3, S, S), uint8, with this stroke on it."""
        source = {
            "dark": np.full_like(whole, DARK),
            "light": np.full_like(whole, LIGHT),
            "copy": np.roll(whole, -COPIED, axis=2),
            "mirror": whole[:, :, ::-1],
        }[self.brush]
        return np.where(self._covers(whole.shape[-1]), source, whole)

    def _covers(self, side: int) -> np.ndarray:
        y, x = np.mgrid[:side, :side]
        covered = np.zeros((side, side), dtype=bool)
        starts = [self.points[0], *self.points]
        for (x0, y0), (x1, y1) in zip(starts, self.points, strict=False):
            steps = max(abs(x1 - x0), abs(y1 - y0), 1)
            for k in range(steps + 1):
                cx, cy = (floor(a + (b - a) * k / steps + 0.5) for a, b in ((x0, x1), (y0, y1)))
                covered |= (x - cx) ** 2 + (y - cy) ** 2 <= self.radius**2
        return covered


def paint(
    detector: Detector,
    parts: Tensor,
    normal: Tensor,
    ready: dict[str, Stroke],
    *,
    alt: str,
    sigma: float = 1.0,
) -> None:
    """Display parts to paint on, and the detector's answer to every stroke (built for chapter 03).

    Beside the part stand its reconstruction and the error map; of a `Boosted` also
    (Fea_T − Fea_S)², and with spatio-channel attention how far M moves from that of the untouched
    part. Maps are enlarged and smoothed as in chapter 04. White is the largest value on `normal`,
    or here if that is larger.

    Args:
        detector: a `Reconstruction` of an `AutoEncoder`, or a `Boosted` of one, tapped at its
            bottleneck, with a `SpatioChannelAttention` or none; or classes that work alike.
        parts: uint8 (N, 3, S, S) in [0, 255], to paint on; S a multiple of 8.
        normal: uint8 (M, 3, S, S), other normal parts, whose maps' peaks are the ruler.
        ready: defects to choose, by name; the still picture shows the first.
        alt: what the still picture shows, for one who cannot see it.
        sigma: of the maps' smoothing, in pixels.
    Raises:
        ValueError: for an empty alt, no ready defect, or parts of another shape.
        TypeError: for a detector that the engine cannot run, or would answer for otherwise.
    """
    refuse_unfit(parts, ready, alt)
    networks = networks_of(detector)
    refuse_another_answer(detector, networks, parts)
    told = {
        "side": parts.shape[-1],
        "names": NAMES,
        "parts": [coded(part.numpy()) for part in parts],
        "ready": {name: asdict(stroke) for name, stroke in ready.items()},
        "networks": {name: sent(layers) for name, layers in networks.items()},
        "gaussian": gaussian(sigma),
        "peaks": peaks(networks, normal, sigma),
        "heat": heat(),
    }
    whole = parts[0].numpy()
    first = next(iter(ready.values())).on(whole)
    still = picture(whole, first, maps_of(networks, torch.as_tensor(first)[None], sigma))
    page.show(html(told, still, alt.strip()), alt.strip())


def refuse_unfit(parts: Tensor, ready: dict[str, Stroke], alt: str) -> None:
    """Raise a ValueError for what could not be shown."""
    if not (isinstance(alt, str) and alt.strip()):
        raise ValueError("paint: alt is empty; say what the figure shows")
    if not ready:
        raise ValueError("paint: no ready defect; give one, as in {'a scratch': Stroke(...)}")
    if unknown := [stroke.brush for stroke in ready.values() if stroke.brush not in BRUSHES]:
        raise ValueError(f"paint: no brush {unknown[0]!r}; choose from {', '.join(BRUSHES)}")
    shape = tuple(parts.shape)
    if parts.dtype != torch.uint8 or len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
        raise ValueError(f"paint: parts are {parts.dtype} {shape}; uint8 (N, 3, S, S) is wanted")
    if shape[2] % 8 or not shape[0]:
        raise ValueError(f"paint: parts are {shape}; one at least, of a side that 8 divides")


def refuse_another_answer(detector: Detector, networks: Networks, parts: Tensor) -> None:
    """Raise a TypeError where the engine's networks are not what the detector works out."""
    own = collect(detector, parts)["map_o"]
    apart = float(np.abs(answers(networks, parts)["map_o"].numpy() - own).max())
    if not apart < CLOSE:
        raise TypeError(
            f"paint: the error map that the page would work out is {apart:.3f} from that of this "
            f"{type(detector).__name__}. The engine knows a chain of convolutions, the mean "
            "squared error of its input, and M = σ(D(ReLU(E(Fea_I)))); show another detector"
        )


def peaks(networks: Networks, normal: Tensor, sigma: float) -> dict[str, list[float]]:
    """The peak of each normal part's maps, in rising order."""
    maps = maps_of(networks, normal, sigma)
    return {key: sorted(round(float(value), 8) for value in peak(maps[key]))
            for key in ("error", "inconsistency") if key in maps}  # fmt: skip


def heat() -> str:
    """The book's colours of a heat map: 256 times red, green, blue."""
    from matplotlib import colormaps

    return coded(colormaps["magma"](np.arange(256), bytes=True)[:, :3])


def picture(whole: np.ndarray, painted: np.ndarray, maps: dict[str, np.ndarray]) -> str:
    """The still picture, which stays where scripts do not run: an address that holds it."""
    import matplotlib.pyplot as plt

    from fmabs_lite.lesson.plots import show_images

    changed = (painted != whole).any(axis=0)
    shown = {"a painted defect": painted, "reconstruction": maps["reconstruction"][0]}
    for name in ("error", "inconsistency"):
        if name in maps:
            found = auroc(maps[name].ravel(), changed.ravel())
            shown[f"{NAMES[name]}\nAUROC {found:.2f}"] = maps[name][0]
    with plt.ioff():
        figure = show_images([*shown.values()], [*shown], scale=1.8)
        file = BytesIO()
        figure.savefig(file, format="webp", dpi=110)
        plt.close(figure)
    return page.address(file.getvalue())


def html(told: dict[str, Any], still: str, alt: str) -> str:
    """The figure, which holds all that it needs."""
    shown = ["part", *told["peaks"], "reconstruction"]
    shown += ["mask"] if "attention" in told["networks"] else []
    panels = "".join(panel(name, told["side"]) for name in shown)
    return f"""\
<div class="live live-paint" role="group" aria-label="A part to paint on">
<style>
{page.script("paint.css")}{page.STYLE}</style>
<img class="still" src="{still}" alt="{escape(alt)}">
<div class="alive" hidden>
{tools(told)}
<div class="maps">{panels}</div>
<p role="status" class="spoken"></p>
</div>
{page.block(told)}
<script>
{{  // a block of its own: another figure of the page brings the same names
{page.script("engine.js")}
{page.script("paint.js")}}}
</script>
</div>"""


def tools(told: dict[str, Any]) -> str:
    """Brushes, parts, ready defects, undo and clear."""
    parts = {str(k): f"{k + 1}" for k in range(len(told["parts"]))}
    ready = "".join(f'<button type="button" data-ready="{escape(name)}">{escape(name)}</button>'
                    for name in told["ready"])  # fmt: skip
    return (
        '<div class="tools on-screen">'
        f"{choice('part', parts)}{choice('brush', BRUSHES)}"
        '<label>radius in pixels <input type="range" name="radius" min="0" max="10" value="2" '
        'autocomplete="off"> <output aria-live="off">2</output></label></div>\n'
        f'<div class="tools on-screen">{ready}<button type="button" data-act="undo">undo</button>'
        '<button type="button" data-act="clear">clear</button></div>'
    )


def choice(name: str, options: dict[str, str]) -> str:
    inner = "".join(f'<option value="{key}">{escape(text)}</option>'
                    for key, text in options.items())  # fmt: skip
    return f'<label>{name} <select name="{name}" autocomplete="off">{inner}</select></label>'


def panel(name: str, side: int) -> str:
    """One canvas with its name and what it says; the part's can be painted on."""
    width = side // 8 if name == "mask" else side
    size = f'width="{width}" height="{width}" data-map="{name}"'
    if name == "part":
        canvas = (
            f'<canvas {size} tabindex="0" role="application" aria-label="The part. Paint with a '
            "finger or the mouse; or move with the arrow keys, with Shift in larger steps, and "
            'paint with the space bar."></canvas><span class="ring"></span>'
        )
    else:
        canvas = f'<canvas {size} role="img" aria-label="{NAMES[name]}"></canvas>'
    said = HINT if name == "part" else ""
    return (
        f'<div class="panel"><div class="sheet">{canvas}</div>'
        f'<p><b>{NAMES[name]}</b> <span data-said="{name}">{said}</span></p></div>'
    )
