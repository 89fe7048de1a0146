"""The book on paper: all its pages as one PDF, printed by a headless Chromium."""

from __future__ import annotations

import base64
import re
import tempfile
from pathlib import Path

from fmabs_lite.press.chromium import BROWSERS, Tab, find_browser
from fmabs_lite.press.claims import hold
from fmabs_lite.press.finish import MATHJAX
from fmabs_lite.press.pages import PDF
from fmabs_lite.press.plan import toc

A4 = {"paperWidth": 8.27, "paperHeight": 11.69}  # inches, as Chromium counts
MARGINS = {"marginTop": 0.7, "marginBottom": 0.8, "marginLeft": 0.7, "marginRight": 0.7}
LINK = "The book as one PDF"
FOOTER = """<div style="font: 8px sans-serif; width: 100%; text-align: center">
<span class="pageNumber"></span></div>"""
LOOK = {
    "printBackground": True, "displayHeaderFooter": True, "headerTemplate": "<i></i>",
    "footerTemplate": FOOTER, "generateTaggedPDF": True, "generateDocumentOutline": True,
}  # fmt: skip
# Equations are typeset and pictures are there; then the page may be printed.
READY = """(async () => {
  await window.MathJax?.startup?.promise;
  await Promise.all([...document.images].map(image => image.decode().catch(() => 0)));
})()"""


class PaperError(ValueError):
    """The book cannot be printed: the message says what is missing."""


def print_book(repo: Path) -> Path:
    """Print the built pages into one PDF beside them, and link it from all of them.

    Raises PaperError if there is no browser, or if a page is missing.
    """
    pages = repo / "_build" / "html"
    if not (browser := find_browser()):
        raise PaperError(f"no PDF was printed: none of {', '.join(BROWSERS)} is on the PATH")
    if missing := [name for name in toc(repo) if not (pages / f"{name}.html").exists()]:
        raise PaperError(f"{missing[0]}.html is not built; run fmabs-lite build")
    whole = pages / "whole.html"
    with hold(pages, "the pages of the book"):
        try:
            whole.write_text(whole_book(pages, toc(repo)), encoding="utf-8")
            (pages / PDF).write_bytes(_printed(browser, whole.as_uri()))
        finally:
            whole.unlink(missing_ok=True)
        for page in pages.glob("*.html"):
            page.write_text(with_link(page.read_text(encoding="utf-8")), encoding="utf-8")
    return pages / PDF


def whole_book(pages: Path, names: list[str]) -> str:
    """One page of HTML with the articles of all pages, whose links lead to each other."""
    texts = {name: (pages / f"{name}.html").read_text(encoding="utf-8") for name in names}
    styles = re.findall(r"<link [^>]*rel=.stylesheet[^>]*>", texts[names[0]])
    maths = dict.fromkeys(script for text in texts.values()
                          for script in re.findall(MATHJAX, text, flags=re.S))  # fmt: skip
    articles = [_article(name, text, names) for name, text in texts.items()]
    title = re.search(r"<title>.*?</title>", texts[names[0]], flags=re.S)[0]
    head = ['<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">', title]
    body = ['</head><body class="whole-book"><main class="bd-main"><div class="bd-content">',
            '<div class="bd-article-container">']  # fmt: skip
    ends = "</div></div></main></body></html>"
    return "\n".join([*head, *styles, *maths, *body, *articles, ends])


def _article(name: str, text: str, names: list[str]) -> str:
    """What stands on a page, with its number and with names of places that no other page has."""
    found = re.search(r'<article class="bd-article">(.*?)</article>', text, flags=re.S)[1]
    found = re.sub(r"<script.*?</script>", "", found, flags=re.S)
    found = found.replace(' loading="lazy"', "")
    found = re.sub(r' id="([^"]*)"', rf' id="{name}--\1"', found)
    found = re.sub(r' href="([^"]*)"', lambda link: _link(link[1], name, names), found)
    if number := re.match(r"\d+", name):
        found = found.replace("<h1>", f"<h1>{number[0]} ", 1)
    return f'<article class="bd-article" id="{name}">{found}</article>'


def _link(address: str, name: str, names: list[str]) -> str:
    """A link inside the book leads to its place on paper; a file beside the pages is not there."""
    if re.match(r"[a-z]+:", address):
        return f' href="{address}"'
    page, _, place = address.partition("#")
    page = page.removesuffix(".html") or name
    if page not in names:
        return ""
    return f' href="#{page}--{place}"' if place else f' href="#{page}"'


def with_link(text: str) -> str:
    """A page whose menu ends with the PDF."""
    menu, closes, rest = text.partition("</nav>")
    if PDF in menu or "bd-docs-nav" not in menu:
        return text
    before, _, after = menu.rpartition("</ul>")
    item = f'<li class="toctree-l1"><a class="reference internal" href="{PDF}">{LINK}</a></li>'
    return f"{before}{item}\n</ul>{after}{closes}{rest}"


def _printed(browser: str, address: str) -> bytes:
    # The browser's own helpers write to its profile for a moment after its end.
    scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with scratch as profile, Tab(browser, Path(profile)) as tab:
        tab.open(address)
        tab.run(READY)
        told = tab.tell("Page.printToPDF", **A4, **MARGINS, **LOOK)
    return base64.b64decode(told["data"])
