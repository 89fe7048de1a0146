"""How numbers and tables stand on a built page."""

from __future__ import annotations

import re

import pytest

from fmabs_lite.press.typography import typeset


def table(*rows: tuple[str, ...]) -> str:
    """A table as docutils writes it: the first row holds the heads."""
    lines = [
        "".join(f"<{tag}><p>{cell}</p></{tag}>" for cell in row)
        for row, tag in zip(rows, ["th"] + ["td"] * len(rows), strict=False)
    ]
    return '<table class="table">' + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        ("<p>-0.7 (-5.0 to +3.6)</p>", "<p>−0.7 (−5.0 to +3.6)</p>"),
        ("<p>between -1 and 1</p>", "<p>between −1 and 1</p>"),
        ("<p>6% of 16, 75.7 % of 20</p>", "<p>6\xa0% of 16, 75.7\xa0% of 20</p>"),
    ],
)
def test_a_minus_is_no_hyphen_and_a_percent_sign_stays_with_its_number(written, printed):
    assert typeset(written) == printed


@pytest.mark.parametrize(
    "text",
    [
        "<p>2026-11-28, 10-12, AST-MFR, s11263-020-01400-4</p>",
        "<pre>x = -1  # 5%</pre>",
        "<code>-1 5%</code>",
        "<script>let x = [-1, 5%2];</script>",
        "<style>p { width: 50%; margin: -1px }</style>",
        '<svg><path d="m -1 -2"/></svg>',
        '<img alt="-1, 5%" />',
        r"<span>\(-1 < x\)</span>",
        r"<div>\[x -1\]</div>",
        "<p>a \\ b</p>",
    ],
)
def test_code_drawings_equations_and_names_stay_as_they_are(text):
    assert typeset(text) == text


def test_a_spread_and_an_interval_do_not_break():
    page = typeset(table(("AP", "PRO"), ("2.4 ± 1.0", "<strong>+0.6 (-2.5 to +3.6)</strong>")))
    assert '<td><p><span class="unbroken">2.4 ± 1.0</span></p></td>' in page
    assert '<strong>+0.6 <span class="unbroken">(−2.5 to +3.6)</span></strong>' in page


def test_numbers_break_where_a_desk_has_no_room_for_them():
    cell = "+20.6 (-22.5 to +33.6)"
    assert typeset(table(*[("row", *[cell] * 3)])).count('<span class="unbroken">') == 3
    assert "unbroken" not in typeset(table(*[("row", *[cell] * 5)]))


def test_a_table_whose_words_fit_a_phone_is_marked():
    def page(*words: str) -> str:
        return typeset(table(words))

    marked = '<table class="whole-words table">'
    assert marked in page("AUROC", "84.1 ± 0.3", "held still, by the mean")
    assert marked in page(*["a well-known row"] * 6), "words break at a hyphen, and at spaces"
    assert marked not in page(*["multiplications"] * 4)
    assert marked not in page(*["AUROC"] * 12)


def test_in_any_other_table_each_cell_is_told_its_head():
    heads = ("row", "", "multiplications <em>a</em> step", *["a & b"] * 12)
    page = typeset(table(heads, *[("one", "two", "three", *["four"] * 12)] * 2))
    assert page.startswith('<table class="line-by-line table">')
    told = re.findall(r'<td data-head="([^"]*)">', page)
    assert told == 2 * ["row", "", "multiplications a step", *["a &amp; b"] * 12]
    assert "data-head" not in typeset(table(("row",), ("one",)))
