"""The player of `explore` on a built page, in a headless Chromium."""

from __future__ import annotations

import json
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from tiny_book import make_book

from fmabs_lite.press.build import build
from fmabs_lite.press.plan import Settings

pytestmark = pytest.mark.browser

# Two players: the colour of the first tells both of its values, that of the second its own.
CHAPTER = """\
import matplotlib.pyplot as plt
from fmabs_lite.lesson.explore import explore
def paint(red, green=0):
    plt.figure(figsize=(7, 3.6), facecolor=(red / 255, green / 255, 0))
    plt.show()
def rings(blue):
    plt.figure(figsize=(3, 3), facecolor=(0, 0, blue / 255))
print(data, steps, rate, name)"""
FIRST = 'explore(paint, alt="A colour.", red=[0, 120, 240], green=[0, 100, 200])'
SECOND = 'explore(rings, alt="A blue.", blue=[50, 150, 250])'
# Loads the page in a frame as wide as a phone, moves sliders there as a finger would (the browser
# sends the same event), and notes after each move what is to be seen.
PLAY = """<!doctype html><title>playing</title><body><script>
const wait = ms => new Promise(done => setTimeout(done, ms));
function seen(player) {
  const image = player.querySelector("img");
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight).getContext("2d");
  canvas.drawImage(image, 0, 0);
  return {
    colour: [...canvas.getImageData(20, 20, 1, 1).data].slice(0, 3),
    alt: image.alt,
    values: [...player.querySelectorAll("output")].map(e => e.value),
    spoken: [...player.querySelectorAll("input")].map(e => e.getAttribute("aria-valuetext")),
    height: player.getBoundingClientRect().height,
  };
}
(async () => {
  const frame = document.createElement("iframe");
  frame.style = "width: 390px; height: 900px; border: 0";
  frame.src = "01_play.html";
  const loaded = new Promise(done => { frame.onload = done; });
  document.body.append(frame);
  await loaded;
  const page = frame.contentDocument;
  const players = [...page.querySelectorAll(".explore")];
  const results = {
    states: [players.map(seen)],
    asked: frame.contentWindow.performance.getEntriesByType("resource").map(e => e.name),
    scripts: [...page.scripts].map(e => e.src).filter(Boolean),
    text: page.querySelector("main").innerText,
    scroll: page.documentElement.scrollWidth,
    boxes: [...page.querySelectorAll(".explore img, .explore input, .explore output")]
      .map(e => e.getBoundingClientRect()).map(box => [box.left, box.right, box.height]),
    labels: [...page.querySelectorAll(".explore input")].map(e => e.labels[0].innerText),
  };
  for (const [player, slider, value] of MOVES) {
    const input = players[player].querySelectorAll("input")[slider];
    input.value = value;
    input.dispatchEvent(new Event("input", {bubbles: true}));
    await wait(300);
    results.states.push(players.map(seen));
  }
  const out = document.createElement("pre");
  out.id = "results";
  out.textContent = JSON.stringify(results);
  document.body.append(out);
})();
</script>"""
MOVES = [[0, 0, 2], [0, 1, 1], [1, 0, 1], [0, 0, 0]]  # player, slider, place


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


@pytest.fixture(scope="module")
def played(results_of, tmp_path_factory) -> dict:
    """What the page showed, from a book that was run and built as the real one is."""
    repo = make_book(tmp_path_factory.mktemp("book"), **{"01_play": CHAPTER})
    notebook = json.loads((repo / "book" / "01_play.ipynb").read_text())
    for number, source in enumerate((FIRST, SECOND)):
        notebook["cells"].append({**notebook["cells"][-1], "id": f"n{number}", "source": source})
    (repo / "book" / "01_play.ipynb").write_text(json.dumps(notebook))
    outcomes, first_page = build(repo, Settings())
    assert [outcome.status for outcome in outcomes] == ["done", "done"], outcomes
    folder = first_page.parent
    (folder / "__play.html").write_text(PLAY.replace("MOVES", json.dumps(MOVES)))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        return results_of(f"{address}/__play.html", 60) | {"address": address}
    finally:
        server.shutdown()


def test_each_move_shows_its_frame_and_moves_no_other_player(played):
    expected = [  # the places of the three sliders after each move
        ((0, 0), 50), ((240, 0), 50), ((240, 100), 50), ((240, 100), 150), ((0, 100), 150),
    ]  # fmt: skip
    assert len(played["states"]) == len(expected)
    for (first, second), ((red, green), blue) in zip(played["states"], expected, strict=True):
        assert first["colour"] == pytest.approx([red, green, 0], abs=6)
        assert second["colour"] == pytest.approx([0, 0, blue], abs=6)
        assert first["values"] == first["spoken"] == [str(red), str(green)]
        assert second["values"] == second["spoken"] == [str(blue)]
        assert first["alt"] == f"A colour. (red = {red}, green = {green})"
        assert second["alt"] == f"A blue. (blue = {blue})"


def test_the_page_does_not_jump(played):
    for player in (0, 1):
        assert len({state[player]["height"] for state in played["states"]}) == 1


def test_it_fits_a_phone_and_a_finger(played):
    assert played["scroll"] <= 390
    assert len(played["boxes"]) == 2 + 3 + 3
    for left, right, height in played["boxes"]:
        assert 0 <= left < right <= 390 and height > 0
    sliders = [height for _, _, height in played["boxes"] if height == 44]
    assert len(sliders) == 3
    assert [label.split()[0] for label in played["labels"]] == ["red", "green", "blue"]


def test_nothing_comes_from_elsewhere(played):
    assert played["asked"]  # the page's own style sheets and scripts
    elsewhere = [
        name
        for name in played["asked"] + played["scripts"]
        if not name.startswith((played["address"], "data:"))
    ]
    assert elsewhere == []


def test_the_page_has_the_player_in_place_of_the_widget(played):
    assert "VBox" not in played["text"] and "widget" not in played["text"].lower()
