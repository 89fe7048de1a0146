"""Figures to play with: the frames, the player that holds them, the sliders of a live kernel."""

from __future__ import annotations

import base64
import json
import re
from html import unescape
from io import BytesIO

import matplotlib.pyplot as plt
import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from fmabs_lite.lesson.explore import MOST, explore
from fmabs_lite.press.kernels import manager_class

WIDGET = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"


def paint(red=0, green=0, **_) -> None:
    """Draw a figure of one colour, by which its frame is known again."""
    plt.figure(figsize=(2, 1), facecolor=(red / 255, green / 255, 0))


@pytest.fixture
def shown(monkeypatch) -> list[dict]:
    """The bundles that explore displays."""
    found: list[dict] = []
    monkeypatch.setattr("IPython.display.display", lambda it, raw: found.append(it) or None)
    return found


def frames(player: str) -> list[dict]:
    """Address and alt text of the frames in a player, in the order that its script knows."""
    (src,), (alt,) = (re.findall(rf'<img [^>]*\b{key}="([^"]*)"', player) for key in ("src", "alt"))
    (others,) = re.findall(r'<script type="application/json">(.*?)</script>', player, flags=re.S)
    return [{"src": src, "alt": unescape(alt)}, *json.loads(others)]


def picture(frame: dict) -> Image.Image:
    kind, data = frame["src"].split(",")
    assert kind == "data:image/webp;base64"
    return Image.open(BytesIO(base64.b64decode(data))).convert("RGB")


def test_each_combination_is_drawn_once_and_in_order(shown):
    calls = []

    def draw(**chosen):
        calls.append(chosen)
        paint(**chosen)

    assert explore(draw, alt="One colour.", red=[0, 200], green=(0, 100, 250)) is None
    expected = [(red, green) for red in (0, 200) for green in (0, 100, 250)]
    assert [(call["red"], call["green"]) for call in calls] == expected
    (bundle,) = shown
    assert set(bundle) == {"text/html", "text/plain"}  # no kernel, no widget
    found = frames(bundle["text/html"])
    assert [frame["alt"] for frame in found] == [
        f"One colour. (red = {red}, green = {green})" for red, green in expected
    ]
    assert {picture(frame).size for frame in found} == {(220, 110)}
    for frame, (red, green) in zip(found, expected, strict=True):
        pixel = picture(frame).getpixel((110, 55))
        assert pixel == pytest.approx((red, green, 0), abs=6)


def test_the_player_can_stand_alone_and_twice(shown):
    explore(lambda red, how: paint(red), alt='"<b> & </script>.', red=range(3), how=["<i>"])
    (bundle,) = shown
    player = bundle["text/html"]
    assert frames(player)[2]["alt"] == '"<b> & </script>. (red = 2, how = <i>)'
    assert not re.search("<[bi]>", player) and player.count("</script>") == 2
    assert not re.search(r"https?:|//[a-z]", player)  # from no other place
    assert not re.search(r'\bid="', player)  # a second player on the page has nothing to clash with
    assert player.index("<img") < player.index("<div hidden>")  # without scripts: only the picture
    rows = re.findall(r'<label>(\w+) <input type="range" min="0" max="(\d)" value="0"', player)
    assert rows == [("red", "2"), ("how", "0")]


def two_sizes(k):
    plt.figure(figsize=(k, 1))


def two_figures(k):
    plt.figure()
    plt.figure()


def fails(k):
    plt.figure()
    raise KeyError("no such curve")


MISTAKES = [
    (paint, {}, "nothing to choose"),
    (paint, {"red": []}, "red has no choices"),
    (paint, {"red": 3}, r"red=3 is no list; write red=\[3\]"),
    (paint, {"red": "abc"}, "red='abc' is no list"),
    (paint, {"red": range(31), "green": [1, 2]}, r"31 \(red\) x 2 \(green\) = 62 frames, more"),
    (lambda k: None, {"k": [5]}, r"draw made no figures .* for k = 5"),
    (two_figures, {"k": [5]}, "draw made 2 figures"),
    (two_sizes, {"k": [1, 2]}, "frames of 110 x 110, 220 x 110 pixels; give all"),
]


@pytest.mark.parametrize("draw, values, message", MISTAKES, ids=lambda part: str(part)[:20])
def test_wrong_input_is_told_and_nothing_shown(shown, draw, values, message):
    with pytest.raises(ValueError, match=message):
        explore(draw, alt="A figure.", **values)
    assert shown == [] and plt.get_fignums() == []


def test_alt_text_is_asked_for():
    with pytest.raises(ValueError, match="alt is empty"):
        explore(paint, alt="  ", red=[1])


def test_the_most_frames_are_accepted(shown):
    explore(paint, alt="A figure.", red=range(MOST // 2), green=[0, 9])
    assert len(frames(shown[0]["text/html"])) == MOST


def test_only_its_own_figures_are_closed(shown):
    mine = plt.figure()
    try:
        explore(paint, alt="A figure.", red=[1, 2])
        with pytest.raises(KeyError, match="no such curve"):
            explore(fails, alt="A figure.", k=[1])
        assert plt.get_fignums() == [mine.number] and len(shown) == 1
    finally:
        plt.close(mine)


# --- with a kernel

DRAW = """
import matplotlib, matplotlib.pyplot as plt
from fmabs_lite.lesson.explore import explore
calls, shift = [], 0
def draw(k, r):
    calls.append((k, r))
    if k == 9 and shift:
        raise KeyError("no such curve")
    plt.subplots(figsize=(1 + shift, 1))
    plt.show()
print(matplotlib.get_backend())"""
EXPLORE = 'explore(draw, alt="A figure.", k=[1, 3, 9], r=["few", "many"])'
MOVE = """
import gc
from ipywidgets import SelectionSlider
k, r = sorted(
    (w for w in gc.get_objects() if isinstance(w, SelectionSlider)), key=lambda w: w.description
)
del calls[:]
shift = 2
r.value = "many"
k.value = 3
print(k.description, r.description, calls, plt.get_fignums())"""
BREAK = "k.value = 9"


def execute(folder, *cells: str) -> nbformat.NotebookNode:
    """Run cells with papermill and the backend that a notebook has."""
    metadata = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells], metadata=metadata)
    nbformat.write(notebook, folder / "source.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MPLBACKEND", raising=False)
        return papermill.execute_notebook(
            folder / "source.ipynb",
            folder / "done.ipynb",
            progress_bar=False,
            kernel_manager_class=manager_class([]),  # a plain one may sleep through a reply
        )


def areas(notebook: nbformat.NotebookNode) -> list[list[dict]]:
    """What stands in the Output widgets at the end."""
    state = notebook.metadata.widgets[STATE]["state"].values()
    return [w["state"]["outputs"] for w in state if w["model_name"] == "OutputModel"]


@pytest.fixture(scope="module")
def live(tmp_path_factory) -> nbformat.NotebookNode:
    return execute(tmp_path_factory.mktemp("live"), DRAW, EXPLORE, MOVE)


def test_in_a_kernel_there_is_one_output_for_both(live):
    backend, explored, _ = (cell.outputs for cell in live.cells)
    assert "inline" in backend[0].text  # which displays what is left open, or shown
    (output,) = explored
    assert set(output.data) == {WIDGET, "text/html", "text/plain"}
    assert len(output.data["text/plain"]) < 100
    assert len(frames(output.data["text/html"])) == 6
    models = live.metadata.widgets[STATE]["state"]
    root = models[output.data[WIDGET]["model_id"]]
    children = [models[name.removeprefix("IPY_MODEL_")] for name in root["state"]["children"]]
    kinds = ["SelectionSliderModel", "SelectionSliderModel", "OutputModel"]
    assert [child["model_name"] for child in children] == kinds
    assert children[1]["state"]["_options_labels"] == ["few", "many"]


def test_moving_a_slider_draws_anew_and_shows_it(live):
    (printed,) = live.cells[2].outputs  # and no figure of its own
    assert printed.text == "k r [(1, 'many'), (3, 'many')] []\n"
    ((area,),) = areas(live)
    image = area["data"]["text/html"]
    assert 'alt="A figure. (k = 3, r = many)"' in image
    assert 'width="330" height="110"' in image  # of the figure as draw makes it now


def test_an_error_in_a_redraw_stands_below_the_slider(tmp_path):
    notebook = execute(tmp_path, DRAW, EXPLORE, MOVE, BREAK)
    assert not notebook.cells[3].outputs
    ((area,),) = areas(notebook)
    assert (area["output_type"], area["ename"]) == ("error", "KeyError")
