"""Numbers and tables of a built page, set as print sets them, and so that a phone can show them."""

from __future__ import annotations

import re
from html import escape, unescape
from itertools import zip_longest

# What is no running text: code, scripts, drawings, equations, and the tags themselves.
ASIDE = r"<(pre|code|script|style|svg|textarea)\b.*?</\1>|<[^>]*>|\\\(.*?\\\)|\\\[.*?\\\]"
NUMBERS = (
    (r"(?<![\w.,)\]−-])-(?=\.?\d)", "−"),  # a minus is as wide as a plus; a hyphen is not
    (r"(?<=\d) ?%", "\N{NO-BREAK SPACE}%"),
)
PARTS = r"\([^()<>]* to [^()<>]*\)|[^\s<>]+ ± [^\s<>]+"  # of a cell, that stay on one line
# Pixels that a phone leaves for a table, of a letter there, and of a cell's two sides; on a desk.
PHONE, DESK = (350, 7.0, 6.5), (700, 9.4, 12.0)


def typeset(text: str) -> str:
    """Set the numbers and the tables of a page's HTML."""
    text = re.sub(rf"{ASIDE}|[^<\\]+|\\", _numbers, text, flags=re.S)
    return re.sub(r"<table\b.*?</table>", lambda table: _table(table[0]), text, flags=re.S)


def _numbers(part: re.Match) -> str:
    """A part of a page, with minus signs and percent signs as print has them if it is text."""
    text = part[0]
    if text.startswith(("<", "\\")):
        return text
    for pattern, replacement in NUMBERS:
        text = re.sub(pattern, replacement, text)
    return text


def _table(table: str) -> str:
    """A table with unbroken numbers, marked as fit for a phone, or else to be read line by line.

    It is fit if a phone has room for the longest word of each column. In any other each cell is
    told its column's head, because on a phone a row becomes a few lines: "head value, head value".
    Where even a desk has no room for them, numbers may break.
    """
    rows = [_cells(row) for row in re.findall(r"<tr\b.*?</tr>", table, flags=re.S)]
    columns = list(zip_longest(*rows, fillvalue=""))
    if _fits(columns, PARTS + r"|[^\s-]+-?", *DESK):
        table = re.sub(PARTS, r'<span class="unbroken">\g<0></span>', table)
    fits = _fits(columns, r"[^\s-]+-?", *PHONE)
    kind = "whole-words" if fits else "line-by-line"
    table = re.sub(r'^<table class="', f'<table class="{kind} ', table)
    return table if fits else re.sub(r"<tr\b.*?</tr>", lambda row: _told(row[0], rows[0]), table,
                                     flags=re.S)  # fmt: skip


def _fits(
    columns: list[tuple[str, ...]], word: str, room: float, letter: float, sides: float
) -> bool:
    """Whether there is room for the longest word of each column."""
    longest = [max((len(one) for cell in column for one in re.findall(word, cell)), default=0)
               for column in columns]  # fmt: skip
    return sum(letter * many + sides for many in longest) <= room


def _told(row: str, heads: list[str]) -> str:
    """A row of a table whose cells carry the heads of their columns."""
    names = iter(heads)
    return re.sub(r"<td\b", lambda _: f'<td data-head="{escape(next(names, ""))}"', row)


def _cells(row: str) -> list[str]:
    """The words of a row's cells, without their tags."""
    cells = re.findall(r"<t[dh]\b.*?</t[dh]>", row, flags=re.S)
    return [unescape(re.sub(r"<[^>]*>", "", cell)).strip() for cell in cells]
