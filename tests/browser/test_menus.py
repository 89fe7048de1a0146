"""Menu, contents and search of a built page, with real clicks in a headless Chromium."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
import yaml
from tiny_book import make_book

from fmabs_lite.press.build import build, html
from fmabs_lite.press.chromium import Tab
from fmabs_lite.press.plan import Settings

pytestmark = pytest.mark.browser

WIDTHS = (390, 820, 1024, 1280)
SECTIONS = 5
# Each panel: its links, the buttons that may open it, where its links lead from 01_one.html.
PANELS = {
    "menu": (".bd-docs-nav a", ".primary-toggle", ["index.html", "01_one.html#", "02_two.html"]),
    "contents": (
        ".page-toc a", ".secondary-toggle", [f"01_one.html#section-{n}" for n in range(SECTIONS)],
    ),
}  # fmt: skip
SEARCH = ".search-button__button"
# Where a finger reaches what a selector names: once nothing slides any more, the middle of each
# element that is in the window and on top there. What a click set off begins with the next frame.
PLACES = """(async selector => {
  for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
  for (let moving; (moving = document.getAnimations()).length;)  // one may follow on another
    await Promise.allSettled(moving.map(each => each.finished));
  return [...document.querySelectorAll(selector)].flatMap(element => {
    const box = element.getBoundingClientRect();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    return element.contains(document.elementFromPoint(x, y)) ? [{x, y, href: element.href}] : [];
  });
})"""


def places(tab: Tab, selector: str) -> list[dict]:
    return tab.run(f"{PLACES}({json.dumps(selector)})")


def click(tab: Tab, x: float, y: float, **_) -> None:
    for kind in ("mousePressed", "mouseReleased"):
        tab.tell("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


def show(tab: Tab, panel: str) -> list[dict]:
    """The links of a panel: those seen at once, else those seen after a click on its button."""
    links, button, _ = PANELS[panel]
    if not (seen := places(tab, links)):
        (place,) = places(tab, button)
        click(tab, **place)
        end = time.monotonic() + 3  # a busy machine is slow to open it
        while not (seen := places(tab, links)) and time.monotonic() < end:
            time.sleep(0.1)
    return seen


@pytest.fixture(scope="module")
def repo(tmp_path_factory) -> Path:
    """A book of two chapters with sections, built as the real one is."""
    work = "print(data, steps, rate, name)"
    repo = make_book(tmp_path_factory.mktemp("book"), **{"01_one": work, "02_two": work})
    path = repo / "book" / "01_one.ipynb"
    notebook = json.loads(path.read_text())
    for number in range(SECTIONS):
        text = f"## Section {number}\n\n" + "A paragraph.\n\n" * 30
        cell = {"cell_type": "markdown", "id": f"s{number}", "metadata": {}, "source": text}
        notebook["cells"].append(cell)
    path.write_text(json.dumps(notebook))
    outcomes, _ = build(repo, Settings())
    assert [outcome.status for outcome in outcomes] == ["done"] * 3, outcomes
    return repo


def site(repo: Path) -> str:
    return (repo / "_build" / "html").as_uri() + "/"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("panel", PANELS)
def test_every_link_is_at_most_one_click_away_and_leads_there(tab, repo, panel, width):
    wanted = [site(repo) + link for link in PANELS[panel][2]]
    for number, address in enumerate(wanted):
        tab.open(site(repo) + "01_one.html", width)
        seen = show(tab, panel)
        assert [place["href"] for place in seen] == wanted
        click(tab, **seen[number])
        assert tab.arrives(address)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("panel", PANELS)
def test_what_a_button_opened_closes_again(tab, repo, panel, width):
    links, button, _ = PANELS[panel]
    tab.open(site(repo) + "01_one.html", width)
    if not places(tab, links):  # it lies over the page: a click beside it closes it
        assert show(tab, panel)
        click(tab, width - 20 if panel == "menu" else 20, 400)
        assert not places(tab, links)
    elif place := places(tab, button):  # it stands beside the page: the button takes it away
        click(tab, **place[0])
        assert not places(tab, links)
    assert show(tab, panel)


@pytest.mark.parametrize("width", WIDTHS)
def test_one_button_opens_the_search(tab, repo, width):
    tab.open(site(repo) + "01_one.html", width)
    (place,) = places(tab, SEARCH)
    assert places(tab, "input[name=q]") == []
    click(tab, **place)
    assert len(places(tab, "input[name=q]")) == 1
    tab.tell("Input.insertText", text="mimicry")
    assert tab.run("document.activeElement.value") == "mimicry"


def test_the_options_add_to_those_of_jupyter_book(tab, repo):
    tab.open(site(repo) + "01_one.html", 390)
    for buttons in (".dropdown-source-buttons", ".dropdown-launch-buttons", ".theme-switch-button"):
        assert len(places(tab, buttons)) == 1, buttons


def test_without_the_options_the_buttons_are_found_dead(tab, repo, tmp_path):
    """The tests above can fail: they would, with the theme as it comes."""
    bare = Path(shutil.copytree(repo, tmp_path / "bare"))
    config = yaml.safe_load((bare / "_config.yml").read_text())
    del config["sphinx"]["recursive_update"], config["sphinx"]["config"]["html_theme_options"]
    (bare / "_config.yml").write_text(yaml.safe_dump(config))
    assert html(bare).status == "done"
    for panel in PANELS:
        tab.open(site(bare) + "01_one.html", 390)
        assert show(tab, panel) == []
