"""Figures to play with: sliders in a running notebook, a player of drawn frames on the page.

matplotlib's own player, `Animation.to_jshtml`, is not used: its buttons are icons loaded from
another server, it has one slider for all frames, and that slider shows no value.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from html import escape
from io import BytesIO
from itertools import product
from math import prod
from typing import Any
from unittest.mock import patch

MOST = 60  # frames of 15 kB (lines) to 110 kB (noise): more make a page heavy on a phone
DPI = 110  # as the book's other figures


def explore(draw: Callable[..., Any], *, alt: str, **values: Iterable[Any]) -> None:
    """Display a figure with one slider for each name in `values` (built for chapters 05 to 08).

    In a running notebook the sliders are ipywidgets, and moving one calls `draw` again. On a page
    without a kernel they move through frames that were drawn, one for each combination, when the
    cell ran. The cell has one output that holds both.

    Args:
        draw: called as `draw(k=1, r=4)`; makes one figure with matplotlib.pyplot, always of the
            same size, and prints nothing. What it returns is ignored.
        alt: what the figure shows, for one who cannot see it; the chosen values are added to it.
        values: each name with its choices, in the order of the slider; the first is shown first.

    Raises:
        ValueError: `alt` is empty, there are no choices or more than 60 combinations of them, or
            `draw` did not make one figure or made figures of several sizes.

    Example:
        >>> def wave(k, size):
        ...     plt.figure(figsize=(5, 3))
        ...     plt.plot(size * np.sin(k * np.linspace(0, 6, 200)))
        ...     plt.ylim(-2, 2)
        >>> explore(wave, alt="A wave of k periods.", k=[1, 2, 3], size=[1, 2])
    """
    from IPython import get_ipython
    from IPython.display import display

    if not (isinstance(alt, str) and alt.strip()):
        raise ValueError("explore: alt is empty; say what the figure shows")
    choices = _choices(values)
    frames = [
        _frame(draw, dict(zip(choices, chosen, strict=True)), alt)
        for chosen in product(*choices.values())
    ]
    if len(sizes := {(frame.width, frame.height) for frame in frames}) > 1:
        told = ", ".join(f"{width} x {height}" for width, height in sorted(sizes))
        raise ValueError(f"explore: frames of {told} pixels; give all figures the same figsize")
    bundle = {"text/html": _player(frames, choices), "text/plain": f"{frames[0].alt} …"}
    if hasattr(get_ipython(), "kernel"):
        # A notebook's window takes the widget of the two, a page the HTML (see _config.yml).
        bundle = _sliders(draw, alt, choices, frames[0])._repr_mimebundle_() | bundle
    display(bundle, raw=True)


def _choices(values: dict[str, Iterable[Any]]) -> dict[str, list[Any]]:
    if not values:
        raise ValueError("explore: nothing to choose; give a name its choices, as in k=[1, 3]")
    for name, choices in values.items():
        if isinstance(choices, str) or not isinstance(choices, Iterable):
            raise ValueError(f"explore: {name}={choices!r} is no list; write {name}=[{choices!r}]")
    lists = {name: list(choices) for name, choices in values.items()}
    if empty := [name for name, choices in lists.items() if not choices]:
        raise ValueError(f"explore: {empty[0]} has no choices; give it one at least")
    if (count := prod(map(len, lists.values()))) > MOST:
        told = " x ".join(f"{len(choices)} ({name})" for name, choices in lists.items())
        raise ValueError(
            f"explore: {told} = {count} frames, more than {MOST}; leave out choices or a name"
        )
    return lists


@dataclass(frozen=True)
class _Frame:
    """A drawn figure: its address (which holds the whole picture), alt text, size in pixels."""

    src: str
    alt: str
    width: int
    height: int

    def html(self) -> str:
        return "<img " + " ".join(f'{k}="{escape(str(v))}"' for k, v in asdict(self).items()) + ">"


def _frame(draw: Callable[..., Any], chosen: dict[str, Any], alt: str) -> _Frame:
    """Call `draw`, keep a picture of the figure that it makes, close the figure."""
    import matplotlib.pyplot as plt
    from PIL import Image

    before = set(plt.get_fignums())
    try:
        # Neither at once nor after the cell may the figure be displayed beside the player.
        with plt.ioff(), patch.object(plt, "show"):
            draw(**chosen)
        told = ", ".join(f"{name} = {value}" for name, value in chosen.items())
        made = set(plt.get_fignums()) - before
        if len(made) != 1:
            raise ValueError(
                f"explore: draw made {len(made) or 'no'} figures of matplotlib.pyplot for {told}; "
                "begin it with plt.figure() or plt.subplots(), once"
            )
        file = BytesIO()
        plt.figure(*made).savefig(file, format="webp", dpi=DPI)
    finally:
        for number in set(plt.get_fignums()) - before:
            plt.close(number)
    source = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
    return _Frame(source, f"{alt.strip()} ({told})", *Image.open(file).size)


def _sliders(draw: Callable[..., Any], alt: str, choices: dict[str, list], first: _Frame) -> Any:
    """The live half, which shows the first frame and draws anew whenever a slider has stopped.

    It does not use the other frames: `draw` may read what the reader has changed in the notebook
    since the cell ran, and to see that is what a notebook has over a page.
    """
    from IPython.display import HTML, clear_output, display
    from ipywidgets import Output, SelectionSlider, VBox

    sliders = {
        name: SelectionSlider(
            description=name,
            options=[(str(value), value) for value in values],
            continuous_update=False,  # a slow draw does not have to catch up with the finger
        )
        for name, values in choices.items()
    }
    area = Output()

    def redraw(_: Any) -> None:
        with area:  # errors of draw appear here as well
            clear_output(wait=True)
            chosen = {name: slider.value for name, slider in sliders.items()}
            display(HTML(_frame(draw, chosen, alt).html()))

    with area:
        display(HTML(first.html()))
    for slider in sliders.values():
        slider.observe(redraw, "value")
    return VBox([*sliders.values(), area])


# The first picture and no slider is what remains where scripts are not run. The other frames wait
# in a block of JSON, so that such a page does not show them one below the other. Each script sets
# up all players that stand above it and are not ready: no player needs a name of its own.
CODE = """\
<style>
.explore img { max-width: 100%; height: auto; }
.explore div:not([hidden]) { display: grid; grid-template-columns: max-content 1fr max-content;
  gap: 0 1em; align-items: center; }
.explore label { display: contents; }
.explore input { width: 100%; min-width: 0; height: 44px; margin: 0; accent-color: currentColor; }
</style>
<script>
for (const player of document.querySelectorAll(".explore:not([data-ready])")) {
  const image = player.querySelector("img");
  const inputs = [...player.querySelectorAll("input")];
  const others = JSON.parse(player.querySelector("[type='application/json']").textContent);
  const frames = [{src: image.src, alt: image.alt}, ...others];
  const show = () => {
    let place = 0;  // in the order of itertools.product: the last slider runs fastest
    for (const input of inputs) {
      const chosen = JSON.parse(input.dataset.choices)[input.value];
      input.nextElementSibling.value = chosen;
      input.setAttribute("aria-valuetext", chosen);  // else the place would be read out
      place = place * (Number(input.max) + 1) + Number(input.value);
    }
    Object.assign(image, frames[place]);
  };
  player.addEventListener("input", show);
  player.querySelector("div").hidden = false;
  player.dataset.ready = "";
  show();
}
</script>"""


def _player(frames: list[_Frame], choices: dict[str, list[Any]]) -> str:
    """The HTML of the page's half: needs no kernel, no network, no other file."""
    others = json.dumps([{"src": frame.src, "alt": frame.alt} for frame in frames[1:]])
    names = escape(", ".join(choices))
    rows = "\n".join(_row(name, [str(value) for value in choices[name]]) for name in choices)
    return (
        f'<div class="explore" role="group" aria-label="A figure with sliders: {names}">\n'
        f"{frames[0].html()}\n<div hidden>\n{rows}\n</div>\n"
        f'<script type="application/json">{others.replace("<", chr(92) + "u003c")}</script>\n'
        f"{CODE}\n</div>"
    )


def _row(name: str, labels: list[str]) -> str:
    """A slider between its name and its value; the value keeps its width when it changes."""
    return (
        f'<label>{escape(name)} <input type="range" min="0" max="{len(labels) - 1}" value="0" '
        f'autocomplete="off" data-choices="{escape(json.dumps(labels))}"> '
        f'<output aria-live="off" style="min-width: {max(map(len, labels))}ch">'
        f"{escape(labels[0])}</output></label>"
    )
