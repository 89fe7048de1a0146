"""Menu, contents and search of a built page, with real clicks in a headless Chromium."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import yaml
from tiny_book import make_book

from fmabs_lite.press.build import build, html
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


class Tab:
    """A tab of a headless Chromium that is told what to do over its DevTools pipe."""

    def __init__(self, browser: str, profile: Path) -> None:
        options = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND",
            "--remote-debugging-pipe",
        ]  # fmt: skip
        # Chromium listens on file 3 and answers on file 4.
        pipes = 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null'
        self.process = subprocess.Popen(
            ["sh", "-c", pipes, browser, *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.patience = Timer(600, self.process.kill)  # so that no test waits for ever
        self.patience.start()
        self.sent, self.unread, self.session = 0, b"", {}
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        session = self.tell("Target.attachToTarget", targetId=target, flatten=True)
        self.session = {"sessionId": session["sessionId"]}

    def tell(self, method: str, **params) -> dict:
        """Send a command; return its result, nothing if the page changed under it."""
        self.sent += 1
        command = {"id": self.sent, "method": method, "params": params, **self.session}
        self.process.stdin.write(json.dumps(command).encode() + b"\0")
        self.process.stdin.flush()
        while True:
            while b"\0" not in self.unread:
                read = self.process.stdout.read1()
                assert read, "the browser ended"
                self.unread += read
            message, self.unread = self.unread.split(b"\0", 1)
            if (answer := json.loads(message)).get("id") == self.sent:
                return answer.get("result", {})

    def run(self, script: str) -> Any:
        """What a line of JavaScript gives on the page."""
        how = {"awaitPromise": True, "returnByValue": True}
        told = self.tell("Runtime.evaluate", expression=script, **how)
        assert "exceptionDetails" not in told, told
        return told.get("result", {}).get("value")

    def open(self, page: str, width: int) -> None:
        size = {"width": width, "height": 844, "deviceScaleFactor": 1}
        self.tell("Emulation.setDeviceMetricsOverride", mobile=width < 1000, **size)
        self.tell("Page.navigate", url=page)
        assert self.arrives(page)

    def arrives(self, page: str) -> bool:
        """Whether the tab soon shows an address, with all that belongs to the page."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if self.run("location.href + ' ' + document.readyState") == f"{page} complete":
                return True
            time.sleep(0.05)
        return False

    def places(self, selector: str) -> list[dict]:
        return self.run(f"{PLACES}({json.dumps(selector)})")

    def click(self, x: float, y: float, **_) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.tell("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def show(self, panel: str) -> list[dict]:
        """The links of a panel: those seen at once, else those seen after a click on its button."""
        links, button, _ = PANELS[panel]
        if not (seen := self.places(links)):
            (place,) = self.places(button)
            self.click(**place)
            end = time.monotonic() + 3  # a busy machine is slow to open it
            while not (seen := self.places(links)) and time.monotonic() < end:
                time.sleep(0.1)
        return seen


@pytest.fixture(scope="module")
def tab(browser: str, tmp_path_factory) -> Iterator[Tab]:
    opened = Tab(browser, tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.patience.cancel()
    opened.process.kill()
    opened.process.wait()


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
        seen = tab.show(panel)
        assert [place["href"] for place in seen] == wanted
        tab.click(**seen[number])
        assert tab.arrives(address)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("panel", PANELS)
def test_what_a_button_opened_closes_again(tab, repo, panel, width):
    links, button, _ = PANELS[panel]
    tab.open(site(repo) + "01_one.html", width)
    if not tab.places(links):  # it lies over the page: a click beside it closes it
        assert tab.show(panel)
        tab.click(width - 20 if panel == "menu" else 20, 400)
        assert not tab.places(links)
    elif place := tab.places(button):  # it stands beside the page: the button takes it away
        tab.click(**place[0])
        assert not tab.places(links)
    assert tab.show(panel)


@pytest.mark.parametrize("width", WIDTHS)
def test_one_button_opens_the_search(tab, repo, width):
    tab.open(site(repo) + "01_one.html", width)
    (place,) = tab.places(SEARCH)
    assert tab.places("input[name=q]") == []
    tab.click(**place)
    assert len(tab.places("input[name=q]")) == 1
    tab.tell("Input.insertText", text="mimicry")
    assert tab.run("document.activeElement.value") == "mimicry"


def test_the_options_add_to_those_of_jupyter_book(tab, repo):
    tab.open(site(repo) + "01_one.html", 390)
    for buttons in (".dropdown-source-buttons", ".dropdown-launch-buttons", ".theme-switch-button"):
        assert len(tab.places(buttons)) == 1, buttons


def test_without_the_options_the_buttons_are_found_dead(tab, repo, tmp_path):
    """The tests above can fail: they would, with the theme as it comes."""
    bare = Path(shutil.copytree(repo, tmp_path / "bare"))
    config = yaml.safe_load((bare / "_config.yml").read_text())
    del config["sphinx"]["recursive_update"], config["sphinx"]["config"]["html_theme_options"]
    (bare / "_config.yml").write_text(yaml.safe_dump(config))
    assert html(bare).status == "done"
    for panel in PANELS:
        tab.open(site(bare) + "01_one.html", 390)
        assert tab.show(panel) == []
