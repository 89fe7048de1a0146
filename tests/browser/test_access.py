"""The built pages for who reads with a keyboard or a screen reader: axe-core, and the focus."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from fmabs_lite.press.plan import chapters, toc

pytestmark = [pytest.mark.book, pytest.mark.browser]

ROOT = Path(__file__).resolve().parents[2]
NAMES = toc(ROOT)
WIDTHS = (1280, 390)
GRAVE = ("critical", "serious", "moderate")
# What is found in markup that is not ours: rule and selector, and why it may stay.
OF_THE_THEME: dict[tuple[str, str], str] = {}
# What depends on the colours and on the width; all the rest is asked once.
AT_NIGHT_ON_A_PHONE = ["color-contrast", "scrollable-region-focusable", "target-size"]
# Colours and places change at once, not bit by bit.
AT_ONCE = """document.head.insertAdjacentHTML("beforeend",
  "<style>* { transition: none !important; scroll-behavior: auto !important }</style>")"""
# Everything is unfolded; of each colour of code one word is enough, and much faster.
PREPARE = """(() => {
  for (const fold of document.querySelectorAll("main details")) fold.open = true;
  const known = new Set();
  for (const word of document.querySelectorAll("main .highlight span[class]"))
    if (known.has(word.className)) word.replaceWith(...word.childNodes);
    else known.add(word.className);
})()"""
FIND = """(async options => {
  const found = await axe.run(document, {resultTypes: ["violations"], ...options});
  return found.violations.flatMap(each => each.nodes.map(node => (
    {rule: each.id, impact: node.impact, target: node.target.join(" "), html: node.html})));
})"""
UNSOUND = """<p style="color: #ddd; background: #fff">pale</p><img src="_static/logo.svg">
<div style="height: 1em; overflow: auto"><p>one<br>two<br>three</p></div>"""
# Where the keyboard is, if it was not there before: what it is, whether a ring is around it, and
# whether that is to be seen.
STOP = """(() => {
  const element = document.activeElement;
  window.reached ??= new Set([document.body]);
  if (reached.has(element)) return null;
  reached.add(element);
  element.scrollIntoView({block: "nearest"});  // what loads meanwhile may have pushed it away
  const [style, box] = [getComputedStyle(element), element.getBoundingClientRect()];
  return {
    html: element.outerHTML.slice(0, 160),
    anchor: element.matches("a.headerlink"),
    group: element.closest(".explore")?.ariaLabel ?? "",
    ring: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    seen: element.checkVisibility({opacityProperty: true, visibilityProperty: true})
      && box.width > 0 && box.bottom > 0 && box.top < innerHeight
      && box.right > 0 && box.left < innerWidth,
  };
})()"""
COUNT = """({
  headings: document.querySelectorAll("article :is(h1, h2, h3, h4) > a.headerlink").length,
  sliders: document.querySelectorAll(".explore input").length,
})"""


@pytest.fixture(scope="module")
def site(browser, request) -> str:
    """The folder of the pages: only with a browser is the book built for this."""
    return request.getfixturevalue("pages")[NAMES[0]].parent.as_uri()


@pytest.fixture(scope="module")
def findings(site, request) -> dict[str, list[dict]]:
    """What axe-core finds on each page with everything unfolded: by day, then at night."""
    tab = request.getfixturevalue("tab")
    axe = Path(find_spec("axe_playwright_python").origin).with_name("axe.min.js")
    found = {}
    for name in [*NAMES, "unsound"]:
        tab.open(f"{site}/{NAMES[0] if name == 'unsound' else name}.html", 1280)
        if name == "unsound":
            tab.run(f"document.querySelector('article').innerHTML += {json.dumps(UNSOUND)}")
        tab.run(axe.read_text(encoding="utf-8") + "; 0")
        tab.run(AT_ONCE)
        tab.run(PREPARE)
        by_day = _grave(tab, "light", {})
        tab.resize(390)
        found[name] = by_day + _grave(tab, "dark", {"runOnly": AT_NIGHT_ON_A_PHONE})
    return found


def _grave(tab, theme: str, options: dict) -> list[dict]:
    """What axe finds in one theme, once the page shows it.

    On a busy machine colours may change while axe looks. So what it finds is looked for again, and
    counts when it is still there.
    """
    twice = []
    for _ in range(2):
        tab.run(f"document.documentElement.dataset.theme = {theme!r}")
        tab.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        seen = tab.run(f"{FIND}({json.dumps(options)})")
        twice.append([each for each in seen if each["impact"] in GRAVE])
        if not twice[-1]:
            return []
    return [each for each in twice[1] if each in twice[0]]


@pytest.mark.parametrize("name", NAMES)
def test_axe_finds_nothing_grave(findings, name):
    ours = [each for each in findings[name] if (each["rule"], each["target"]) not in OF_THE_THEME]
    assert ours == []


def test_axe_finds_what_is_wrong(findings):
    assert {each["rule"] for each in findings["unsound"]} >= {"image-alt", "color-contrast"}


@pytest.fixture(scope="module", params=WIDTHS)
def walks(site, request) -> dict[str, dict]:
    """The keyboard's way through the first page, the package's, and one with a player."""
    pages, tab = request.getfixturevalue("pages"), request.getfixturevalue("tab")
    plays = next(name for name in chapters(ROOT) if 'class="explore"' in pages[name].read_text())
    walked = {}
    for name in (NAMES[0], "api", plays):
        tab.open(f"{site}/{name}.html", request.param)
        tab.run(AT_ONCE)
        tab.run("window.MathJax?.startup?.promise.then(() => 0)")
        walked[name] = tab.run(COUNT) | {"stops": list(iter(lambda: _step(tab), None))}
    return walked


def _step(tab) -> dict | None:
    """Press the tabulator, and say where it led."""
    for kind in ("rawKeyDown", "keyUp"):
        tab.tell("Input.dispatchKeyEvent", type=kind, key="Tab", windowsVirtualKeyCode=9)
    return tab.run(STOP)


def test_where_the_keyboard_is_can_be_seen(walks):
    for name, walk in walks.items():
        assert len(walk["stops"]) > 10
        unseen = [stop["html"] for stop in walk["stops"] if not (stop["ring"] and stop["seen"])]
        assert unseen == [], name


def test_the_keyboard_reaches_each_heading_and_the_sliders_of_a_named_figure(walks):
    for walk in walks.values():
        assert sum(stop["anchor"] for stop in walk["stops"]) == walk["headings"] > 0
        groups = [stop["group"] for stop in walk["stops"] if stop["group"]]
        assert len(groups) == walk["sliders"]
        assert all(group.startswith("A figure with sliders: ") for group in groups)
