"""What jupyter-book and its theme leave undone on a built page, done to its HTML."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from PIL import Image

from fmabs_lite.press.typography import typeset

RULES = (
    # A screen reader says each folded cell's title: myst-nb labels all of them alike.
    (r' aria-label="Toggle hidden content"', ""),
    # On paper there is nothing to click: the style sheet leaves the invitation out.
    (r'(<p class="collapsed admonition-title">)(Show(?: code)?: )',
     r'\1<span class="on-screen">\2</span>'),
    # The sidebar is a landmark.
    (r'<div ((?:id="pst-primary-sidebar" )?class="bd-sidebar-primary bd-sidebar)',
     r'<div role="navigation" aria-label="Book" \1'),
    # The empty corner of a table heads nothing.
    (r'<th class="(head[^"]*)"><p></p></th>', r'<td class="\1"></td>'),
    # docutils puts entries of a bibliography into a list, but does not make them its items.
    (r'role="doc-biblioentry"', 'role="listitem"'),
)  # fmt: skip
MATHS = r'class="[^"]*\bmath\b'
MATHJAX = r"\s*<script>window\.MathJax.*?</script>|\s*<script[^>]*mathjax/[^>]*></script>"


def finish(pages: Path) -> None:
    """Finish every page of a folder, and store its pictures in fewer bytes."""
    with ThreadPoolExecutor() as pool:  # Pillow lets go of Python's lock while it compresses
        sizes = dict(pool.map(_as_webp, (pages / "_images").glob("*.png")))
    for page in pages.glob("*.html"):
        text = finished(page.read_text(encoding="utf-8"), sizes)
        page.write_text(text, encoding="utf-8")


def finished(text: str, sizes: dict[str, tuple[int, int]]) -> str:
    """A page that a screen reader can follow, whose pictures load when they are needed.

    Args:
        sizes: width and height of each picture that became a WebP, by its name without ending.
    """
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text)
    if not re.search(MATHS, text):
        text = re.sub(MATHJAX, "", text, flags=re.S)
    before, opens, article = text.partition('<article class="bd-article">')
    pictures = count()
    return before + opens + re.sub(
        r"<img [^>]*>", lambda tag: _picture(tag[0], next(pictures) == 0, sizes), typeset(article)
    )  # fmt: skip


def _picture(tag: str, first: bool, sizes: dict[str, tuple[int, int]]) -> str:
    """A picture's tag that reserves its place and, but for the page's first, waits to be seen."""
    found = re.search(r"_images/([^\"/]+)\.png", tag)
    if found and found[1] in sizes:
        width, height = sizes[found[1]]
        tag = tag.replace(found[0], f"_images/{found[1]}.webp")
        if " width=" not in tag:
            tag = tag.replace("<img ", f'<img width="{width}" height="{height}" ', 1)
    return tag if first else tag.replace("<img ", '<img loading="lazy" ', 1)


def _as_webp(path: Path) -> tuple[str, tuple[int, int]]:
    """Store a picture as a WebP of the very same pixels; return its name and size."""
    picture = Image.open(path)
    if "A" in picture.mode and picture.getextrema()[-1] == (255, 255):
        picture = picture.convert("RGB")  # nothing shines through
    picture.save(path.with_suffix(".webp"), lossless=True, method=2, quality=50, exact=True)
    path.unlink()
    return path.stem, picture.size
