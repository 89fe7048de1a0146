"""The live figures in a headless Chromium: by mouse, finger and keyboard, by day and at night."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from fmabs_lite.lesson.live import drag, play
from fmabs_lite.lesson.live.threshold import points
from fmabs_lite.press.chromium import Tab

pytestmark = pytest.mark.browser

FRAMES, RATE = 21, 20
GREYS = (
    np.zeros((FRAMES, 40, 60), np.uint8) + (10 * np.arange(FRAMES, dtype=np.uint8))[:, None, None]
)
SCORES = np.where(np.arange(FRAMES) < 2, np.nan, np.sin(np.arange(FRAMES)))
BOXES = [np.array([[5, 5, 20, 20, 0.2], [30, 8, 50, 30, 0.7]])] * FRAMES
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Live</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body { font: 16px sans-serif; margin: 16px; max-width: 720px; background: #fff; color: #222 }
[data-theme=dark] body { background: #121212; color: #ddd }
:focus-visible { outline: 3px solid #06c }</style></head>
<body><main><h1>Live</h1>FIGURES</main></body></html>"""
WIDTHS = (1280, 390)
FIND = """(async () => (await axe.run(document, {resultTypes: ["violations"]})).violations
  .filter(each => each.impact !== "minor").map(each => [each.id, each.nodes[0].html]))()"""
# What the first clip, or the one of that number, shows.
CLIP = """((number = 0) => {
  const figure = document.querySelectorAll(".live-clip")[number];
  const canvas = figure.querySelector("canvas");
  const {width, height} = canvas;
  const pen = canvas.getContext("2d");
  return {
    frame: Number(figure.querySelector("input").value),
    grey: [...pen.getImageData(2, height - 2, 1, 1).data.slice(0, 3)],
    box: [...pen.getImageData(Math.round(width / 2), Math.round(height / 2), 1, 1).data],
    spoken: figure.querySelector("input").getAttribute("aria-valuetext"),
    told: figure.querySelector("output").value,
    status: figure.querySelector("[role=status]").textContent,
    button: figure.querySelector("button").textContent,
    cursor: figure.querySelector(".cursor").getAttribute("d"),
    dot: figure.querySelector(".dot").getAttribute("d"),
    line: getComputedStyle(figure.querySelector(".line")).stroke,
    height: figure.getBoundingClientRect().height,
  };
})"""
THRESHOLD = """((number = 0) => {
  const figure = document.querySelectorAll(".live-threshold")[number];
  return {
    at: Number(figure.querySelector("input").value),
    spoken: figure.querySelector("input").getAttribute("aria-valuetext"),
    pixels: figure.querySelector(".pixels").textContent,
    images: figure.querySelector(".images").textContent,
    live: figure.querySelector(".spoken").textContent,
    words: [...figure.querySelectorAll("li span")].map(e => e.textContent),
    flagged: [...figure.querySelectorAll("li")].map(e => e.hasAttribute("data-flagged")),
    turned: [...figure.querySelectorAll("li")].map(e => e.className === "turned"),
    dots: ["roc", "pr", "pro"].map(c => figure.querySelector(`.${c} .dot`).getAttribute("d")),
    orange: [...figure.querySelectorAll("canvas")].map(canvas => {
      const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      let count = 0;
      for (let i = 0; i < data.length; i += 4) count += data[i] === 230;
      return count;
    }),
    height: figure.getBoundingClientRect().height,
  };
})"""


def maps_and_masks() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    masks = np.zeros((12, 24, 24), bool)
    masks[:6, 8:15, 8:15] = True
    return rng.normal(size=masks.shape) + 2 * masks, masks


def figures() -> str:
    shown: list[dict] = []
    with patch("IPython.display.display", lambda it, raw: shown.append(it)):
        for _ in range(2):
            play(GREYS, SCORES, np.arange(FRAMES) > 9, BOXES, rate=RATE,
                 alt="A street.", transcript="Somebody cycles.")  # fmt: skip
            drag(*maps_and_masks(), alt="Maps of noise.")
    return "".join(bundle["text/html"] for bundle in shown)


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("page") / "live.html"
    path.write_text(PAGE.replace("FIGURES", figures()), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(params=WIDTHS)
def page(tab: Tab, address: str, request) -> Iterator[Tab]:
    """The page, anew, at the width of a desk or of a phone."""
    yield opened(tab, address, request.param)
    media(tab)


@pytest.fixture
def wide(tab: Tab, address: str) -> Iterator[Tab]:
    yield opened(tab, address, WIDTHS[0])
    media(tab)


def opened(tab: Tab, address: str, width: int) -> Tab:
    tab.open("about:blank")  # else an address that is shown already is not loaded again
    tab.open(address, width)
    ready = "[...document.querySelectorAll('.live .still')].every(e => e.hidden)"
    until(tab, lambda: tab.run(ready))
    return tab


def until(tab: Tab, true, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)


def media(tab: Tab, **features: str) -> None:
    """Let the browser prefer something, or nothing."""
    listed = [{"name": k.replace("_", "-"), "value": v} for k, v in features.items()]
    tab.tell("Emulation.setEmulatedMedia", features=listed)


def place(tab: Tab, selector: str, share: float = 0.5) -> tuple[float, float]:
    """The point of an element at a share of its width, scrolled into the window."""
    box = tab.run(f"""(() => {{ const e = document.querySelector({json.dumps(selector)});
        e.scrollIntoView({{block: "center", behavior: "instant"}});
        const box = e.getBoundingClientRect();
        return [box.left, box.top, box.width, box.height]; }})()""")
    return box[0] + share * box[2], box[1] + box[3] / 2


def mouse(tab: Tab, kind: str, at: tuple[float, float], held: bool = True) -> None:
    tab.tell("Input.dispatchMouseEvent", type=f"mouse{kind}", x=at[0], y=at[1], button="left",
             buttons=int(held), clickCount=1)  # fmt: skip


def click(tab: Tab, selector: str) -> None:
    at = place(tab, selector)
    mouse(tab, "Pressed", at)
    mouse(tab, "Released", at, False)


def touch(tab: Tab, kind: str, *at: tuple[float, float]) -> None:
    tab.tell("Input.dispatchTouchEvent", type=f"touch{kind}",
             touchPoints=[{"x": x, "y": y} for x, y in at])  # fmt: skip


def press(tab: Tab, selector: str, key: str, code: int) -> None:
    tab.run(f"document.querySelector({json.dumps(selector)}).focus()")
    text = {"text": " "} if key == " " else {}
    for kind in ("keyDown", "keyUp"):
        tab.tell("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code,
                 **(text if kind == "keyDown" else {}))  # fmt: skip


def clip(tab: Tab, number: int = 0) -> dict:
    return tab.run(f"{CLIP}({number})")


def threshold(tab: Tab, number: int = 0) -> dict:
    return tab.run(f"{THRESHOLD}({number})")


# --- both


def test_each_figure_fits_and_nothing_is_loaded(page):
    width = page.run("document.documentElement.clientWidth")
    assert page.run("document.documentElement.scrollWidth") <= width
    cut = """[...document.querySelectorAll(".live *:not(.spoken)")].filter(
      e => e.getClientRects().length && !e.closest("svg") && e.getBoundingClientRect().right
        > document.documentElement.clientWidth).map(e => e.outerHTML.slice(0, 80))"""
    assert page.run(cut) == []
    asked = page.run("performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in asked if not name.startswith("data:")] == []
    small = """[...document.querySelectorAll(".live :is(button, input)")].filter(
      e => e.getBoundingClientRect().height < 44).length"""
    assert page.run(small) == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_grave(page, theme):
    axe = Path(find_spec("axe_playwright_python").origin).with_name("axe.min.js")
    page.run(axe.read_text(encoding="utf-8") + "; 0")
    page.run(f"document.documentElement.dataset.theme = '{theme}'")
    page.run("for (const e of document.querySelectorAll('details')) e.open = true")
    assert page.run(FIND) == []


def test_the_keyboard_reaches_every_control_in_a_named_group(wide):
    stops = []
    for _ in range(8):
        for kind in ("rawKeyDown", "keyUp"):
            wide.tell("Input.dispatchKeyEvent", type=kind, key="Tab", windowsVirtualKeyCode=9)
        stops.append(
            wide.run("""(e => [e.tagName, e.closest("[role=group]")?.ariaLabel,
          parseFloat(getComputedStyle(e).outlineWidth) >= 2])(document.activeElement)""")
        )
    played, dragged = "A clip to play: anomaly score", "A threshold to drag"
    once = [["BUTTON", played, True], ["INPUT", played, True], ["SUMMARY", played, True],
            ["INPUT", dragged, True]]  # fmt: skip
    assert stops == once * 2


def test_at_night_curves_are_light_and_frames_as_they_are(wide):
    by_day, maps = clip(wide), threshold(wide)["orange"]
    wide.run("document.documentElement.dataset.theme = 'dark'")
    at_night = clip(wide)
    assert (by_day["line"], at_night["line"]) == ("rgb(34, 34, 34)", "rgb(221, 221, 221)")
    assert at_night["grey"] == by_day["grey"] and threshold(wide)["orange"] == maps
    filters = "[...document.querySelectorAll('canvas')].map(e => getComputedStyle(e).filter)"
    assert set(wide.run(filters)) == {"none"}


def test_without_a_script_pictures_and_words_are_there(tab, address):
    tab.tell("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open("about:blank")
        tab.open(address, WIDTHS[1])
        seen = tab.run("""Object.fromEntries([".still", "canvas", "input", "button", "ol"].map(
          s => [s, [...document.querySelectorAll(s)].filter(e => e.checkVisibility()).length]))""")
        text = tab.run("document.body.innerText")
    finally:
        tab.tell("Emulation.setScriptExecutionDisabled", value=False)
    assert seen == {".still": 4, "canvas": 0, "input": 0, "button": 0, "ol": 0}
    assert "The clip in words" in text and "TPR (recall)" in text and "AUROC" in text
    drawn = "document.querySelectorAll('.live svg .line').length"
    assert tab.run(drawn) == 2 + 2 * 3


# --- the clip


def test_it_does_not_start_by_itself(page):
    time.sleep(0.3)
    seen = clip(page)
    assert seen["frame"] == 0 and seen["button"] == "Play" and seen["dot"] == ""
    assert seen["spoken"] == "0, score none, normal"


def test_the_button_plays_and_pauses(page):
    click(page, ".live-clip button")
    assert clip(page)["button"] == "Pause"
    until(page, lambda: clip(page)["frame"] >= 3)
    click(page, ".live-clip button")
    paused = clip(page)
    time.sleep(0.3)
    assert clip(page) == paused and paused["button"] == "Play"
    assert paused["status"].startswith(f"paused at frame {paused['frame']}, score ")
    assert clip(page, 1)["frame"] == 0


def test_it_ends_and_begins_again(wide):
    press(wide, ".live-clip input", "End", 35)
    assert clip(wide)["frame"] == FRAMES - 1
    wide.run("""window.seen = []; new MutationObserver(() => seen.push(cursor.getAttribute("d")))
      .observe(window.cursor = document.querySelector(".live-clip .cursor"), {attributes: true})""")
    press(wide, ".live-clip button", " ", 32)
    until(wide, lambda: f"M{FRAMES - 1} 0V1" in wide.run("seen"))
    until(wide, lambda: clip(wide)["button"] == "Play")
    assert wide.run("seen") == [f"M{frame} 0V1" for frame in range(FRAMES)]
    assert clip(wide)["status"].startswith(f"paused at frame {FRAMES - 1}")


def test_slider_cursor_frame_and_words_go_together(page):
    heights = set()
    for frame in (1, 2, 3):
        press(page, ".live-clip input", "ArrowRight", 39)
        seen = clip(page)
        heights.add(seen["height"])
        assert seen["frame"] == frame and seen["cursor"] == f"M{frame} 0V1"
        assert seen["grey"] == pytest.approx([10 * frame] * 3, abs=8)
        score = f"{SCORES[frame]:.4g}" if frame > 1 else "none"
        assert seen["spoken"] == f"{frame}, score {score}, normal"
        assert seen["told"] == f"frame {seen['spoken']}"
    assert len(heights) == 1
    assert clip(page, 1)["frame"] == 0


def test_the_box_with_the_highest_score_is_thick(wide):
    scan = """(() => {
      const canvas = document.querySelector(".live-clip canvas"), s = canvas.width / 60;
      const {data} = canvas.getContext("2d").getImageData(0, 18 * s, canvas.width, 1);
      const orange = [];
      for (let x = 0; x < canvas.width; x++)
        if (data[4 * x] > 190 && data[4 * x + 2] < 60) orange.push(x / s);
      return orange;
    })()"""
    orange = np.array(wide.run(scan))
    count = [(abs(orange - edge) < 1).sum() for edge in (5, 20, 30, 50)]
    assert min(count[2:]) >= 4 > max(count[:2])


def test_the_mouse_scrubs_on_the_curve(page):
    click(page, ".live-clip button")
    for kind, share in (("Pressed", 0.25), ("Moved", 0.5), ("Moved", 1.5)):
        mouse(page, kind, place(page, ".live-clip .plot", share))
        frame = round(min(share, 1) * (FRAMES - 1))
        assert clip(page)["frame"] == frame and clip(page)["button"] == "Play"
    mouse(page, "Released", place(page, ".live-clip .plot", 1), False)
    mouse(page, "Moved", place(page, ".live-clip .plot", 0.1), False)
    assert clip(page)["frame"] == FRAMES - 1


def test_a_finger_scrubs_on_the_curve(tab, address):
    opened(tab, address, WIDTHS[1])
    tab.tell("Emulation.setTouchEmulationEnabled", enabled=True)
    try:
        touch(tab, "Start", place(tab, ".live-clip .plot", 0.25))
        assert clip(tab)["frame"] == 5
        for share in (0.3, 0.4, 0.6):
            touch(tab, "Move", place(tab, ".live-clip .plot", share))
        touch(tab, "End")
        assert clip(tab)["frame"] == 12
    finally:
        tab.tell("Emulation.setTouchEmulationEnabled", enabled=False)


def test_who_wants_less_motion_has_it_stop(tab, address):
    media(tab, prefers_reduced_motion="reduce")
    opened(tab, address, WIDTHS[0])
    time.sleep(0.2)
    assert clip(tab)["frame"] == 0
    media(tab)
    click(tab, ".live-clip button")
    until(tab, lambda: clip(tab)["frame"] >= 2)
    media(tab, prefers_reduced_motion="reduce")
    until(tab, lambda: clip(tab)["button"] == "Play")
    media(tab)


# --- the threshold


def test_the_keyboard_moves_one_threshold_for_all(page):
    maps, masks = maps_and_masks()
    maps = maps[np.argsort(-maps.max(axis=(1, 2)), kind="stable")]
    found, start = points(*maps_and_masks()), threshold(page)
    heights = {start["height"]}
    for key, code, step in (("ArrowLeft", 37, -1), ("ArrowRight", 39, 0), ("ArrowRight", 39, 1)):
        press(page, ".live-threshold input", key, code)
        seen = threshold(page)
        k = seen["at"]
        heights.add(seen["height"])
        assert k == start["at"] + step
        flagged = maps.max(axis=(1, 2)) >= found.threshold[k]
        assert seen["flagged"] == flagged.tolist()
        assert seen["spoken"] == f"{found.threshold[k]:.3f}"
        assert f"TPR (recall) {found.tpr[k]:.3f}, FPR {found.fpr[k]:.4f}" in seen["pixels"]
        x, y = (float(v) for v in seen["dots"][0][1:-2].split())
        assert (x, 1 - y) == pytest.approx((found.fpr[k], found.tpr[k]), abs=1e-4)
    assert len(heights) == 1
    assert threshold(page, 1) == start | {"height": threshold(page, 1)["height"]}


def test_script_and_page_say_the_same_at_first(wide, address):
    source = Path(address.removeprefix("file://")).read_text(encoding="utf-8")
    seen = threshold(wide)
    assert f'<p class="pixels">{seen["pixels"]}</p>' in source
    assert f'<p class="images">{seen["images"]}</p>' in source


def test_marked_pixels_are_orange(wide):
    maps, masks = maps_and_masks()
    order = np.argsort(-maps.max(axis=(1, 2)), kind="stable")
    found, seen = points(maps, masks), threshold(wide)
    inner = masks.copy()
    inner[:, 8], inner[:, 14], inner[:, :, 8], inner[:, :, 14] = False, False, False, False
    outline = masks & ~inner
    marked = (maps >= found.threshold[seen["at"]]) & ~outline
    assert seen["orange"] == marked.sum(axis=(1, 2))[order].tolist()


def test_images_that_change_sides_light_up(wide):
    for key, code, word in (("End", 35, "miss"), ("Home", 36, "hit")):
        press(wide, ".live-threshold input", key, code)
        seen = threshold(wide)
        assert set(seen["words"]) == {word, {"miss": "correct", "hit": "false alarm"}[word]}
        assert set(seen["flagged"]) == {word == "hit"}
    assert all(seen["turned"]) and seen["dots"][2].startswith("M1 0")
    press(wide, ".live-threshold input", "ArrowRight", 39)
    assert not any(threshold(wide)["turned"])


def test_precision_without_marked_pixels_has_no_point(wide):
    press(wide, ".live-threshold input", "End", 35)
    seen = threshold(wide)
    assert "precision none" in seen["pixels"] and seen["dots"][1] == ""
    assert seen["images"] == "Images: 0 of 6 defective flagged, 0 of 6 normal flagged."


def test_counts_are_announced_when_the_finger_rests(page):
    page.run("""window.said = 0; new MutationObserver(() => window.said++).observe(
      document.querySelector(".live-threshold .spoken"), {childList: true})""")
    for share in (0.9, 0.8, 0.7, 0.6):
        at = place(page, ".live-threshold input", share)
        mouse(page, "Pressed" if share == 0.9 else "Moved", at)
    mouse(page, "Released", at, False)
    until(page, lambda: page.run("window.said") == 1)
    seen = threshold(page)
    assert seen["live"] == f"{seen['pixels']} {seen['images']}"
    time.sleep(0.7)
    assert page.run("window.said") == 1
    assert page.run("document.querySelector('.live-threshold .spoken').ariaLive") == "polite"
