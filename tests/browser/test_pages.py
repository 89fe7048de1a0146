"""The built pages in a headless Chromium: on desks, on a tablet, on a phone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from fmabs_lite.press.plan import chapters, toc

pytestmark = [pytest.mark.book, pytest.mark.browser]

ROOT = Path(__file__).resolve().parents[2]
NAMES = toc(ROOT)
WIDTHS = (1280, 1024, 820, 390)
MOST = 1.5e6  # bytes of a chapter's pictures
SCREEN = 800  # pixels of a desk's screen, from top to bottom
# How far down a chapter's first figure may begin. 09 to 15 open with it, as with the answer.
DEEPEST = {
    name: SCREEN if "09" <= name[:2] <= "15" else 2 * SCREEN
    for name in chapters(ROOT)
    if name[:2] >= "02"  # 00 and 01 first say what the book runs on, and what a label is
}
# Loads each page in a frame as wide as the screen it stands for, and measures it there.
MEASURE = """<!doctype html><title>measuring</title><body><script>
const wait = ms => new Promise(done => setTimeout(done, ms));
async function measure(name, width) {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 900px; border: 0`;
  frame.src = name + ".html";
  const loaded = new Promise(done => { frame.onload = done; });
  document.body.append(frame);
  await loaded;
  const page = frame.contentDocument;
  const images = [...page.querySelectorAll("main img")];
  const figures = [...page.querySelectorAll("article img, article .cell_output svg")]
    .filter(e => !e.closest("a") && e.offsetParent !== null).map(e => e.getBoundingClientRect());
  const below = images.filter(e => e.getBoundingClientRect().top > 2 * 900);
  const eager = below.filter(e => e.loading !== "lazy").map(e => e.outerHTML.slice(0, 120));
  for (const image of images) { image.loading = "eager"; image.scrollIntoView(); }
  for (let n = 0; n < 50 && images.some(image => !image.complete); n++) await wait(100);
  for (const fold of page.querySelectorAll("main details")) fold.open = true;
  const shown = what => [...page.querySelectorAll(what)].filter(e => e.offsetParent !== null);
  const wider = (what, box) => shown(what).filter(box).slice(0, 3)
    .map(e => e.textContent.trim().slice(0, 80));
  const light = shown("main img").map(i => frame.contentWindow.getComputedStyle(i).filter);
  page.documentElement.dataset.theme = "dark";
  const dark = shown("main img").map(i => frame.contentWindow.getComputedStyle(i).filter);
  const result = {
    cut: wider("main div.highlight pre", e => e.scrollWidth > e.clientWidth + 1),
    tables: wider("main table", e => e.getBoundingClientRect().right > width + 1),
    filters: [...new Set([...light, ...dark])].filter(f => f !== "none"),
    elsewhere: [...page.querySelectorAll("img, script, link[rel=stylesheet], iframe")]
      .map(e => e.getAttribute("src") ?? e.getAttribute("href") ?? "")
      .filter(address => /^(https?:)?\\/\\//.test(address)),
    figure: figures.length ? figures[0].top : null,
    eager, name, width,
    title: page.querySelector("h1")?.textContent ?? "",
    inner: frame.contentWindow.innerWidth,
    scroll: page.documentElement.scrollWidth,
    images: images.filter(i => i.getAttribute("src").includes("_images/")).length,
    broken: images.filter(i => !/^https?:/.test(i.getAttribute("src")) && !i.naturalWidth)
      .map(image => image.getAttribute("src")),
    wide: [...page.querySelectorAll("main *")]
      .filter(e => e.getBoundingClientRect().right > width + 1 && !inScroller(e, page))
      .slice(0, 3).map(e => e.outerHTML.slice(0, 120)),
  };
  frame.remove();
  return result;
}
function inScroller(element, page) {
  for (let e = element; e && e !== page.body; e = e.parentElement)
    if (["auto", "scroll", "hidden"].includes(getComputedStyle(e).overflowX)) return true;
  return false;
}
(async () => {
  const results = [];
  for (const [name, width] of JOBS) results.push(await measure(name, width));
  const out = document.createElement("pre");
  out.id = "results";
  out.textContent = JSON.stringify(results);
  document.body.append(out);
})();
</script>"""


# A page that must be found wanting: wider than a phone, and without its picture.
UNSOUND = """<!doctype html><meta name="viewport" content="width=device-width">
<style>html[data-theme=dark] img { filter: brightness(.8) }</style>
<main><h1>Unsound</h1><article style="position: absolute; top: 900px">
<img src="_images/none.png" alt="none"></article><p style="width: 900px">wide</p>
<div class="highlight"><pre style="width: 90px; overflow: auto">a line that is too long</pre></div>
<table style="width: 900px"><tr><td>wide</td></tr></table>
<img src="https://127.0.0.1:9/a.png" alt="elsewhere"></main>
"""


class Handler(SimpleHTTPRequestHandler):
    """Serves the book and, beside it, the page that measures: so it may look into its frames."""

    def do_GET(self) -> None:
        jobs = json.dumps([[name, width] for name in [*NAMES, "__unsound"] for width in WIDTHS])
        ours = {
            "/__measure.html": MEASURE.replace("JOBS", jobs),
            "/__unsound.html": UNSOUND,
        }
        if self.path not in ours:
            return super().do_GET()
        body = ours[self.path].encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture(scope="module")
def address(pages: dict[str, Path]) -> Iterator[str]:
    folder = next(iter(pages.values())).parent
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def measured(results_of, request) -> dict[tuple[str, int], dict]:
    address = request.getfixturevalue("address")  # only with a browser is the book built for this
    results = results_of(f"{address}/__measure.html", 600)
    return {(result["name"], result["width"]): result for result in results}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_page_fits_and_shows_its_pictures(measured, name, width):
    page = measured[name, width]
    assert page["title"].strip()
    assert page["inner"] == width
    assert page["broken"] == []
    assert page["scroll"] <= width, page["wide"]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_cut_off(measured, name, width):
    """On a desk a line of code fits its column; on a phone it wraps, and tables fit the screen.

    Between the two the widest tables scroll, each in a box of its own.
    """
    assert measured[name, width]["cut"] == []
    if width in (1280, 390):
        assert measured[name, width]["tables"] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_map_is_the_same_in_the_dark_and_nothing_comes_from_elsewhere(measured, name):
    assert measured[name, 1280]["filters"] == []
    assert measured[name, 1280]["elsewhere"] == []


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_light_and_wait_until_they_are_needed(measured, pages, name):
    assert measured[name, 1280]["eager"] == []
    folder, text = pages[name].parent, pages[name].read_text(encoding="utf-8")
    files = {folder / found for found in re.findall(r'src="(_images/[^"]+)"', text)}
    assert sum(file.stat().st_size for file in files) <= MOST


@pytest.mark.parametrize("name", NAMES)
def test_only_a_page_with_equations_loads_what_sets_them(pages, name):
    text = pages[name].read_text(encoding="utf-8")
    assert ("mathjax/" in text) == bool(re.search(r'class="math ', text))


@pytest.mark.parametrize(("name", "deepest"), DEEPEST.items())
def test_the_first_figure_is_near_the_top(measured, name, deepest):
    assert measured[name, 1280]["figure"] is not None
    assert measured[name, 1280]["figure"] < deepest


def test_there_are_pictures_to_look_at(measured):
    assert sum(page["images"] for (name, _), page in measured.items() if name in NAMES) > 0


def test_the_measure_finds_what_is_wrong(measured):
    assert measured["__unsound", 390]["scroll"] > 390 and measured["__unsound", 390]["wide"]
    assert measured["__unsound", 1280]["scroll"] <= 1280
    assert measured["__unsound", 1280]["broken"] == ["_images/none.png"]
    assert measured["__unsound", 1280]["cut"] == ["a line that is too long"]
    assert measured["__unsound", 390]["tables"] == ["wide"]
    assert measured["__unsound", 1280]["filters"] == ["brightness(0.8)"]
    assert SCREEN < measured["__unsound", 1280]["figure"] < 2 * SCREEN
    assert measured["__unsound", 1280]["elsewhere"] == ["https://127.0.0.1:9/a.png"]
