"""The picture of the book: what is lit, what is said of it, and that it needs no other file."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from fmabs_lite.lesson.diagrams import ARROWS, KINDS, PARTS, SETS, SUB, WIDTH, diagram
from fmabs_lite.lesson.plots import PALETTE

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def show(monkeypatch):
    """Call diagram; return what it displays as HTML, the parsed picture and its alt text."""
    found: list[dict] = []
    monkeypatch.setattr("IPython.display.display", lambda it, raw: found.append(it))

    def call(*args, **kwargs):
        assert diagram(*args, **kwargs) is None
        html = found[-1]["text/html"]
        (picture,) = ElementTree.fromstring(f"<div>{html}</div>").findall(f"{SVG}svg")
        assert picture.get("role") == "img"
        assert picture.get("aria-label") == found[-1]["text/plain"]
        return html, picture, found[-1]["text/plain"]

    return call


def groups(picture) -> dict:
    return {group.get("data-part"): group for group in picture if group.get("data-part")}


def words(element) -> str:
    """All text of a part, as it is read."""
    return " ".join("".join(line.itertext()) for line in element.iter(f"{SVG}text"))


@pytest.mark.parametrize("lit", SETS)
def test_what_is_lit_has_its_colour_and_the_rest_has_none(show, lit):
    _, picture, _ = show(lit)
    listed = SETS[lit].split()
    assert set(groups(picture)) == set(PARTS)
    for name, group in groups(picture).items():
        expected = name.split(".")[0] in listed
        assert group.get("class") == ("lit" if expected else "dim")
        own = PALETTE.get(PARTS[name].role, "currentColor") if expected else "currentColor"
        assert {e.get(key) for e in group.iter() for key in ("fill", "stroke")} - {None} <= {
            own, "currentColor", "none",
        }  # fmt: skip
        assert group.get("fill") == group.get("stroke") == own


@pytest.mark.parametrize("lit", SETS)
def test_the_alt_text_names_the_lit_parts_and_all_others(show, lit):
    _, _, alt = show(lit)
    first, rest = alt.split(". ", 1)
    for name in SETS[lit].split():
        assert lit == "whole" or re.search(rf"\b{name}\b", first)
    assert lit in first or first.endswith("lit: all of it")
    for name in PARTS:
        assert re.search(rf"\b{name.split('.')[-1]}\b", rest), name
    assert 2 <= len(re.findall(r"\.(?= [A-Z]|$)", alt)) <= 4


def test_without_a_name_the_whole_picture_is_lit(show):
    _, picture, alt = show()
    assert {group.get("class") for group in groups(picture).values()} == {"lit"}
    assert "all of it" in alt


def test_several_names_light_all_their_parts(show):
    _, picture, alt = show(lit=["loss", "spatial attention"])
    lit = {name for name, group in groups(picture).items() if group.get("class") == "lit"}
    assert lit == set(SETS["loss"].split()) | set(SETS["spatial attention"].split())
    assert "loss and spatial attention" in alt and "1×H×W" in alt


@pytest.mark.parametrize(
    "lit, shape, what, numbers",  # three channels are drawn, and four by four places
    [
        ("channel attention", "C×1×1", "one number a channel", 3),
        ("spatial attention", "1×H×W", "one number a place", 4 * 4),
        ("spatio-channel attention", "C×H×W", "one number an element", 3 * 4 * 4),
    ],
)
def test_the_mask_is_drawn_with_a_cell_for_each_of_its_numbers(show, lit, shape, what, numbers):
    _, picture, alt = show(lit)
    mask = groups(picture)["M"]
    assert len(list(mask.iter(f"{SVG}path"))) == numbers
    assert shape in words(mask) and what in words(mask)
    assert f"{shape}, {what}" in alt and f"goes through the {lit}" in alt
    others = set(KINDS) - {lit}
    assert not any(f"the {other}" in alt for other in others)


@pytest.mark.parametrize(
    "lit, told",
    [("attention", "'attention'"), ("", "''"), (["loss", "losses"], "'losses'"), ([], "nothing")],
)
def test_an_unknown_name_is_refused_with_the_choices(lit, told):
    with pytest.raises(ValueError) as raised:
        diagram(lit)
    assert str(raised.value) == f"diagram: lit is {told}; choose from {', '.join(SETS)}"


@pytest.mark.parametrize("lit", SETS)
def test_it_is_to_be_read_on_a_phone(show, lit):
    _, picture, _ = show(lit)
    left, top, width, height = map(float, picture.get("viewBox").split())
    assert (left, top) == (0, 0) and width == WIDTH <= 400
    sizes = [float(e.get("font-size")) for e in picture.iter() if e.get("font-size")]
    assert min(sizes) == SUB >= 12
    for name, group in groups(picture).items():
        x, y, w, h = PARTS[name].box
        assert 0 < x and x + w < width and 0 < y and y + h < height
        for line in group.iter(f"{SVG}text"):
            assert y < float(line.get("y")) - 9 and float(line.get("y")) < y + h, name


def test_each_symbol_comes_back_to_the_line(show):
    """What follows a low letter stands as high as what is before it."""
    _, picture, _ = show()
    line = next(e for e in picture.iter(f"{SVG}text") if "".join(e.itertext()).startswith("|Fea"))
    assert "".join(line.itertext()) == "|FeaT − FeaS| (1)"
    height, heights = 0.0, {}
    for run in line:
        height += float(run.get("dy"))
        heights[run.text] = height
    assert heights.pop("T") == heights.pop("S") > 0
    assert set(heights.values()) == {0}


def test_arrows_begin_and_end_at_boxes():
    def touches(point):
        px, py = map(int, point.split(","))
        return any(
            (px in (x, x + w) and y <= py <= y + h) or (py in (y, y + h) and x <= px <= x + w)
            for x, y, w, h in (part.box for part in PARTS.values())
        )

    for of, points in ARROWS:
        assert {name for name in of.split()} <= set(PARTS)
        first, *_, last = points.split()
        assert touches(first) and touches(last), (of, points)


def test_two_of_them_fit_on_a_page_and_ask_for_nothing(show):
    """Without an id nothing can be taken twice; without an address nothing is loaded."""
    both = "".join(show(lit)[0] for lit in ("loss", "whole"))
    assert not re.search(r"\bid=|\burl\(|\bhref|<script|@import", both)
    assert set(re.findall(r"https?://[^\"]*", both)) == {"http://www.w3.org/2000/svg"}
