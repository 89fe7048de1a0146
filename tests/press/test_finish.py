"""What a built page gets beside what jupyter-book writes."""

from __future__ import annotations

import numpy as np
from PIL import Image

from fmabs_lite.press.finish import finish, finished

MATHJAX = """<script>window.MathJax = {"options": {}}</script>
    <script defer="defer" src="_static/mathjax/tex-chtml.js"></script>"""
PAGE = f"""<head>{MATHJAX}</head>
<div id="pst-primary-sidebar" class="bd-sidebar-primary bd-sidebar">
<img src="_static/logo.svg"></div>
<article class="bd-article"><img alt="badge" src="_static/colab.svg" />
<summary aria-label="Toggle hidden content">
<p class="collapsed admonition-title">Show code: Set-up</p></summary>
<img alt="map" src="_images/map.png" /><img width="300" alt="map" src="_images/map.png" />
<table><th class="head"><p></p></th><th class="head"><p>AP</p></th></table>
<div role="list"><div role="doc-biblioentry">Zheng</div></div>
</article>"""


def test_a_screen_reader_hears_names_and_landmarks():
    page = finished(PAGE, {})
    assert "Toggle hidden content" not in page
    assert '<span class="on-screen">Show code: </span>Set-up</p>' in page
    assert '<div role="navigation" aria-label="Book" id="pst-primary-sidebar"' in page
    assert '<td class="head"></td><th class="head"><p>AP</p></th>' in page
    assert '<div role="list"><div role="listitem">Zheng' in page


def test_a_picture_reserves_its_place_and_all_but_the_first_wait():
    page = finished(PAGE, {"map": (30, 20)})
    assert '<img src="_static/logo.svg">' in page
    assert '<img alt="badge" src="_static/colab.svg" />' in page
    assert (
        '<img loading="lazy" width="30" height="20" alt="map" src="_images/map.webp" />'
        '<img loading="lazy" width="300" alt="map" src="_images/map.webp" />'
    ) in page
    assert "_images/map.png" in finished(PAGE, {}), "no such file was stored anew"


def test_only_a_page_with_equations_keeps_what_sets_them():
    assert "MathJax" not in finished(PAGE, {}) and "mathjax" not in finished(PAGE, {})
    assert MATHJAX in finished(PAGE + '<span class="math notranslate">E</span>', {})


def test_a_map_keeps_every_pixel(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    solid = pixels.copy()
    solid[..., 3] = 255
    (tmp_path / "_images").mkdir()
    for name, array in (("map", solid), ("glass", pixels)):
        Image.fromarray(array).save(tmp_path / "_images" / f"{name}.png")
    (tmp_path / "one.html").write_text(PAGE, encoding="utf-8")
    finish(tmp_path)
    stored = {path.name: Image.open(path) for path in (tmp_path / "_images").iterdir()}
    assert sorted(stored) == ["glass.webp", "map.webp"]
    assert stored["map.webp"].mode == "RGB"
    assert np.array_equal(np.array(stored["map.webp"].convert("RGBA")), solid)
    assert np.array_equal(np.array(stored["glass.webp"]), pixels)
    assert 'width="30" height="20"' in (tmp_path / "one.html").read_text(encoding="utf-8")
