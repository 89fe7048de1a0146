"""The pages as they are printed, and the book as one PDF."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from fmabs_lite.press import paper
from fmabs_lite.press.plan import toc

ROOT = Path(__file__).resolve().parents[2]
NAMES = toc(ROOT)
WIDTHS = (660, 460)  # the text on A4 and on A5, in pixels
MOST = 30e6  # bytes of the book on paper
# What is wrong with a page on paper. Nothing there may scroll, be cut off, or wait for a click.
MEASURE = """(async width => {
  await window.MathJax?.startup?.promise;
  const told = found => found.slice(0, 3).map(e => e.outerHTML.slice(0, 120));
  const shown = what => [...document.querySelectorAll(what)].filter(
    e => e.checkVisibility({contentVisibilityAuto: true, visibilityProperty: true}));
  const right = e => e.getBoundingClientRect().right;
  const unfolded = [...document.querySelectorAll("article details:not(.hide)")];
  return {
    cut: told(shown("article pre").filter(e => e.scrollWidth > e.clientWidth + 1)),
    wide: told(shown("article *").filter(e => right(e) > width + 1 && !e.closest("mjx-container"))),
    scrolls: told(shown("article *").filter(e => /auto|scroll/.test(getComputedStyle(e).overflow)
      && (e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1))),
    folded: told(unfolded.filter(e => !e.lastElementChild.checkVisibility())),
    clicks: told(shown("nav.bd-links, .bd-header-article, .prev-next-area, .copybtn, .headerlink,"
      + ".explore input, .on-screen")),
    code: told(shown("article details.hide .cell_input")),
    solutions: unfolded.length,
    theme: document.documentElement.dataset.theme,
  };
})"""
SOUND = {"cut": [], "wide": [], "scrolls": [], "folded": [], "clicks": [], "code": [],
         "theme": "light"}  # fmt: skip
PAGE = """<!doctype html><html><head><title>A book</title>
<link rel="stylesheet" href="none.css"></head><body>
<nav class="bd-links bd-docs-nav"><ul><li><a href="index.html">one</a></li>
</ul></nav><article class="bd-article"><section id="top"><h1>{title}</h1><p>{text}</p></section>
</article></body></html>"""


@pytest.fixture(scope="module")
def printed(browser, request) -> dict[tuple[str, int], dict]:
    """Each page as it is printed, by its name and the paper's width."""
    site = request.getfixturevalue("pages")[NAMES[0]].parent.as_uri()
    tab, found = request.getfixturevalue("tab"), {}
    tab.tell("Emulation.setEmulatedMedia", media="print")
    for name in NAMES:
        tab.open(f"{site}/{name}.html", WIDTHS[0])
        tab.run("document.documentElement.dataset.theme = 'dark'")
        tab.run("dispatchEvent(new Event('beforeprint'))")  # as a browser does
        for width in WIDTHS:
            tab.resize(width)
            found[name, width] = tab.run(f"{MEASURE}({width})")
    tab.tell("Emulation.setEmulatedMedia", media="")
    found["screen", 460] = tab.run(f"{MEASURE}(460)")
    return found


@pytest.mark.book
@pytest.mark.browser
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost_on_paper(printed, name, width):
    page = printed[name, width]
    assert {key: page[key] for key in SOUND} == SOUND


@pytest.mark.book
@pytest.mark.browser
def test_the_measure_finds_what_a_screen_has(printed):
    assert printed["screen", 460]["clicks"] and printed["screen", 460]["scrolls"] == []
    assert sum(printed[name, 660]["solutions"] for name in NAMES) > 0


@pytest.mark.book
@pytest.mark.browser
def test_the_book_on_paper_is_not_too_large(browser, request, tmp_path):
    pages = request.getfixturevalue("pages")[NAMES[0]].parent
    shutil.copytree(pages, tmp_path / "_build" / "html")
    (tmp_path / "book").mkdir()
    shutil.copy(ROOT / "book" / "_toc.yml", tmp_path / "book")
    data = paper.print_book(tmp_path).read_bytes()
    assert len(data) <= MOST
    assert data.count(b"/Type /Page\n") > 100
    assert b"file://" not in data


@pytest.fixture
def two_pages(tmp_path) -> Path:
    """A repository with two built pages that link to each other, and to a file beside them."""
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "_toc.yml").write_text("root: index\nchapters: [{file: 01_one}]\n")
    pages = tmp_path / "_build" / "html"
    pages.mkdir(parents=True)
    text = '<a href="01_one.html#top">on</a> <a href="notebooks.zip">all</a>'
    (pages / "index.html").write_text(PAGE.format(title="A book", text=text))
    text = '<a href="index.html">back</a> <a href="#top">up</a> <a href="https://a.b/">away</a>'
    (pages / "01_one.html").write_text(PAGE.format(title="One", text=text))
    return tmp_path


def test_links_of_the_whole_book_stay_inside_it(two_pages):
    whole = paper.whole_book(two_pages / "_build" / "html", ["index", "01_one"])
    assert re.findall(r'<a href="([^"]*)"', whole) == [
        "#01_one--top", "#index", "#01_one--top", "https://a.b/",
    ]  # fmt: skip
    assert "<a>all</a>" in whole
    assert re.findall(r' id="([^"]*)"', whole) == ["index", "index--top", "01_one", "01_one--top"]
    assert "<h1>A book</h1>" in whole and "<h1>01 One</h1>" in whole


@pytest.mark.browser
def test_a_printed_book_has_an_outline_and_every_page_leads_to_it(browser, two_pages):
    target = paper.print_book(two_pages)
    data = target.read_bytes()
    assert data.startswith(b"%PDF") and b"/Outlines" in data and b"file://" not in data
    pages = two_pages / "_build" / "html"
    assert sorted(path.name for path in pages.iterdir()) == [
        "01_one.html", "fmabs-lite.pdf", "index.html",
    ]  # fmt: skip
    paper.print_book(two_pages)
    for page in pages.glob("*.html"):
        assert page.read_text().count('href="fmabs-lite.pdf"') == 1


def test_without_a_browser_no_page_leads_to_a_pdf(two_pages, monkeypatch):
    monkeypatch.setattr(paper, "find_browser", lambda: None)
    with pytest.raises(paper.PaperError, match="none of chromium, .* is on the PATH"):
        paper.print_book(two_pages)
    assert "pdf" not in (two_pages / "_build" / "html" / "index.html").read_text()


def test_a_page_that_is_not_built_is_named(two_pages, monkeypatch):
    monkeypatch.setattr(paper, "find_browser", lambda: "chromium")
    (two_pages / "_build" / "html" / "01_one.html").unlink()
    with pytest.raises(paper.PaperError, match="01_one.html is not built; run fmabs-lite build"):
        paper.print_book(two_pages)
