"""The picture of the book: feature mimicking with attention, with a chapter's part of it lit."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from html import escape
from math import atan2, degrees

from fmabs_lite.lesson.plots import PALETTE

WIDTH, HEIGHT = 380, 656
LEAN = 0.4  # how far the plates of M are turned
SYMBOL, WORD, SUB = 15, 13, 12  # sizes of text; a phone shows it at nine tenths of that


@dataclass(frozen=True)
class Part:
    """A box (left, top, width, height) with lines of text, and its words in the alt text."""

    box: tuple[float, float, float, float]
    text: str
    says: str
    role: str = ""  # a key of PALETTE; data have the colour of text
    shape: str = "box"


# In the order of the alt text, which is all `says` in a row. "teacher.rest" is lit with "teacher".
PARTS = {
    "input": Part((4, 4, 372, 30), "prepared input, the same for both",
                  "The prepared input goes to"),
    "teacher": Part((4, 52, 112, 390), "teacher, frozen", "the frozen teacher",
                    "teacher", "panel"),
    "teacher.encoder": Part((16, 82, 88, 28), "encoder", "(encoder,", "teacher", "narrow"),
    "teacher.layer": Part((30, 124, 60, 28), "layer", "layer,", "teacher"),
    "teacher.rest": Part((16, 390, 88, 42), "rest,\nnot run", "a rest that is not run)",
                         "teacher", "wide"),
    "student": Part((264, 52, 112, 390), "student, trained", "and to the student in training",
                    "student", "panel"),
    "student.encoder": Part((276, 82, 88, 28), "encoder", "(encoder,", "student", "narrow"),
    "student.layer": Part((290, 124, 60, 28), "layer", "layer,", "student"),
    "student.rest": Part((276, 390, 88, 42), "rest", "rest).", "student", "wide"),
    "Fea_T": Part((30, 168, 60, 30), "Fea_T", "The layers give the features Fea_T",
                  "teacher", "chip"),
    "Fea_S": Part((290, 168, 60, 30), "Fea_S", "and Fea_S;", "student", "chip"),
    "Fea_I": Part((122, 159, 136, 48), "Fea_I =\n|Fea_T − Fea_S| (1)",
                  "their inconsistency Fea_I = |Fea_T − Fea_S| (eq. 1)", "feature"),
    "attention": Part((148, 225, 108, 42), "attention", "goes through the attention,", "feature"),
    "M": Part((148, 285, 108, 100), "M\nvalues from\n0 to 1", "which gives the mask M;",
              "feature", "mask"),
    "product": Part((307, 314, 26, 26), "⊙", "the product of Fea_S and M is",
                    "feature", "chip"),
    "Fea_R": Part((290, 350, 60, 28), "Fea_R",
                  "Fea_R, from which the student's rest makes the output.", "student", "chip"),
    "output": Part((276, 456, 88, 28), "output", "The difference of output", "student"),
    "target": Part((148, 500, 84, 30), "target", "and target gives"),
    "difference": Part((256, 500, 120, 30), "difference", "", "student"),
    "L_o": Part((288, 548, 68, 30), "L_o", "the loss L_o", "student"),
    "S_o": Part((288, 608, 68, 30), "S_o", "and the score S_o,", "student"),
    "distance": Part((4, 500, 120, 30), "‖Fea_T − Fea_S‖²",
                     "the squared distance of the features gives", "feature"),
    "L_fea": Part((24, 548, 68, 30), "L_fea (3)", "L_fea (eq. 3)", "feature"),
    "S_fea": Part((24, 608, 68, 30), "S_fea (5)", "and S_fea (eq. 5);", "feature"),
    "L_total": Part((108, 540, 164, 46), "training loss\nL_total = L_fea + L_o (4)",
                    "together L_total = L_fea + L_o (eq. 4)", "hybrid"),
    "S_total": Part((108, 594, 164, 58), "anomaly score\nS_total = λ·S_fea\n+ (1 − λ)·S_o (6)",
                    "and S_total = λ·S_fea + (1 − λ)·S_o (eq. 6).", "hybrid"),
}  # fmt: skip
IDLE = "teacher.rest"  # dashed: Boosted stops the teacher at the layer
# Each line is lit with any of its parts.
ARROWS = (
    ("teacher", "60,34 60,52"), ("student", "320,34 320,52"),
    ("teacher", "60,110 60,124"), ("student", "320,110 320,124"),
    ("teacher Fea_T", "60,152 60,168"), ("student Fea_S", "320,152 320,168"),
    ("Fea_I", "90,183 122,183"), ("Fea_I", "290,183 258,183"),
    (IDLE, "60,198 60,390"), ("student product", "320,198 320,314"),
    ("attention", "202,207 202,225"), ("M", "202,267 202,285"), ("product", "256,327 307,327"),
    ("student Fea_R", "320,340 320,350"), ("student Fea_R", "320,378 320,390"),
    ("output", "320,432 320,456"), ("difference", "320,484 320,500"),
    ("difference", "232,515 256,515"), ("distance", "139,207 139,515 124,515"),
    ("L_fea", "60,530 60,548"), ("L_o", "320,530 320,548"),
    ("S_fea", "12,530 12,623 24,623"), ("S_o", "368,530 368,623 356,623"),
    ("L_total", "92,563 108,563"), ("L_total", "288,563 272,563"),
    ("S_total", "92,623 108,623"), ("S_total", "288,623 272,623"),
)  # fmt: skip
ATTENTION = "attention M product Fea_R"
SETS = {
    "reconstruction": "input student output target difference L_o S_o",
    "mimicry": "teacher Fea_T Fea_S Fea_I distance L_fea",
    "channel attention": ATTENTION,
    "spatial attention": ATTENTION,
    "spatio-channel attention": ATTENTION,
    "loss": "difference distance L_o L_fea L_total",
    "score": "difference distance S_o S_fea S_total",
    "whole": " ".join(name for name in PARTS if "." not in name),
}
# The words in its box, the shape of M and what one number of M is for; then how M is drawn: with
# so many channels, so many cells a side.
KINDS = {
    "channel attention": ("channel\nattention", "C×1×1", "a channel", 3, 1),
    "spatial attention": ("spatial\nattention", "1×H×W", "a place", 1, 4),
    "spatio-channel attention": ("spatio-channel\nattention (2)", "C×H×W", "an element", 3, 4),
}
# Where the page is dark the theme puts HTML that a cell displays on a light ground. Not this one.
STYLE = """\
<style>html[data-theme="dark"] .bd-content div.cell_output .text_html:has(svg.diagram) {
background: none; color: inherit; padding: 0 }</style>"""


def diagram(lit: str | Iterable[str] = "whole") -> None:
    """Display the picture of FMABS, some of its parts lit and the rest grey (chapter 03 onwards).

    Args:
        lit: a key of `SETS`, or several; attention and M are drawn as of the first kind among them.
    Raises:
        ValueError: `lit` names what is not in `SETS`, or nothing.
    """
    from IPython.display import display

    picture, alt = drawn(lit)
    display({"text/html": STYLE + picture, "text/plain": alt}, raw=True)


def drawn(lit: str | Iterable[str] = "whole") -> tuple[str, str]:
    """The same picture as SVG, and its alt text; arguments and errors as in `diagram`."""
    chosen = [lit] if isinstance(lit, str) else list(lit)
    unknown = [repr(name) for name in chosen if name not in SETS]
    if unknown or not chosen:
        told = ", ".join(unknown) or "nothing"
        raise ValueError(f"diagram: lit is {told}; choose from {', '.join(SETS)}")
    kind = next((name for name in chosen if name in KINDS), "")
    parts = PARTS | (_attention(kind) if kind else {})
    names = {name for one in chosen for name in SETS[one].split()}
    alt = _alt(parts, chosen, names)
    return _svg(parts, names, kind, alt), alt


def _attention(kind: str) -> dict[str, Part]:
    """The parts that look different for each kind of attention."""
    text, shape, what, *_ = KINDS[kind]
    told = text.replace("\n", " ").replace("(", "(eq. ")
    mask = f"which gives the mask M ({shape}, one number {what});"
    return {
        "attention": replace(PARTS["attention"], text=text, says=f"goes through the {told},"),
        "M": replace(PARTS["M"], text=f"M: {shape}\none number\n{what}", says=mask),
    }


def _alt(parts: dict[str, Part], chosen: list[str], names: set[str]) -> str:
    listed = ", ".join(name for name in parts if name in names)
    lit = "all of it" if "whole" in chosen else f"{' and '.join(chosen)} ({listed})"
    return " ".join([f"Diagram of FMABS, lit: {lit}.", *(p.says for p in parts.values() if p.says)])


def _svg(parts: dict[str, Part], names: set[str], kind: str, alt: str) -> str:
    def lit(of: str) -> bool:
        return any(name.split(".")[0] in names for name in of.split())

    drawn = [_part(name, part, lit(name), kind) for name, part in parts.items()]
    drawn += [_arrow(of, points, lit(of)) for of, points in ARROWS]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" class="diagram" '
        f'role="img" aria-label="{escape(alt)}" fill="none" '
        'style="display: block; width: 100%; max-width: 30rem; height: auto; margin: 0 auto">\n'
        + "\n".join(drawn)
        + "\n</svg>"
    )


def _arrow(of: str, points: str, lit: bool) -> str:
    (x0, y0), (x, y) = [[int(n) for n in point.split(",")] for point in points.split()[-2:]]
    turn = round(degrees(atan2(y - y0, x - x0)))
    return (
        f'<g stroke="currentColor" stroke-width="{1.7 if lit else 1.2}" '
        f'opacity="{1 if lit else 0.4}"><polyline points="{points}"{_dash(of)}/>'
        f'<path d="M-8,-4 0,0 -8,4z" fill="currentColor" stroke="none" '
        f'transform="translate({x} {y}) rotate({turn})"/></g>'
    )


def _dash(of: str) -> str:
    return ' stroke-dasharray="4 3"' if of == IDLE else ""


def _part(name: str, part: Part, lit: bool, kind: str) -> str:
    colour = PALETTE.get(part.role, "currentColor") if lit else "currentColor"
    fill = (0.07 if part.shape == "panel" else 0.2) if lit else 0
    inside = _mask(part.box, *KINDS.get(kind, (3, 4))[-2:]) if name == "M" else ""
    return (
        f'<g class="{"lit" if lit else "dim"}" data-part="{name}" fill="{colour}" '
        f'stroke="{colour}" stroke-width="{1.8 if lit else 1}">'
        f'<g fill-opacity="{fill}" stroke-opacity="{1 if lit else 0.4}"{_dash(name)}>'
        f'{_outline(part)}</g><g stroke="none" opacity="{1 if lit else 0.62}">'
        f"{inside}{_text(part)}</g></g>"
    )


def _outline(part: Part) -> str:
    x, y, w, h = part.box
    if part.shape in ("narrow", "wide"):  # towards the layer
        top, bottom = (0, 14) if part.shape == "narrow" else (14, 0)
        points = f"{x + top},{y} {x + w - top},{y} {x + w - bottom},{y + h} {x + bottom},{y + h}"
        return f'<polygon points="{points}" stroke-linejoin="round"/>'
    rounding = {"panel": 10, "chip": h / 2}.get(part.shape, 5)
    return f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="{rounding}"/>'


def _mask(box: tuple[float, float, float, float], channels: int, side: int) -> str:
    """M: a leaning plate for each channel, with a cell for each number, paler or darker."""
    wide, high = (6, 7) if side > 1 else (14, 18)
    step = wide * side + 5
    x, y, w, _ = box
    left, top = x + (w - channels * step + 5) / 2, y + 43 - (high + LEAN * wide) * side / 2
    return "".join(
        f'<path d="M{left + c * step + i * wide:.1f},{top + j * high + i * wide * LEAN:.1f} '
        f'l{wide - 1},{(wide - 1) * LEAN:.1f} v{high - 1} l{1 - wide},{(1 - wide) * LEAN:.1f}z" '
        f'fill-opacity="{0.25 + 0.75 * ((3 * c + 5 * i + 2 * j) % 7) / 6:.2f}"/>'
        for c in range(channels)
        for i in range(side)
        for j in range(side)
    )


def _text(part: Part) -> str:
    (x, y, w, h), lines = part.box, part.text.split("\n")
    top = y + h / 2 + 5 - 9 * (len(lines) - 1)  # a little high: symbols hang down
    places = [top + 17 * k for k in range(len(lines))]
    if part.shape == "panel":
        places = [y + 20]
    if part.shape == "mask":
        places = [y + 17, y + h - 24, y + h - 8]
    return "".join(
        f'<text x="{x + w / 2}" y="{place}" text-anchor="middle" fill="currentColor" '
        f'font-size="{SYMBOL if "_" in line or len(line) == 1 else WORD}">{_symbols(line)}</text>'
        for place, line in zip(places, lines, strict=True)
    )


def _symbols(line: str) -> str:
    """Escaped text in which the T of Fea_T is small and low; dy moves down, then up again."""
    pieces = [piece for piece in re.split(r"(_\w+|\(\d\))", line) if piece]
    low, out = 0, ""
    for piece in pieces:
        down = 4 if piece.startswith("_") else 0
        size = f' font-size="{SUB}"' if piece[0] in "_(" and len(piece) > 1 else ""
        out += f'<tspan dy="{down - low}"{size}>{escape(piece.lstrip("_"))}</tspan>'
        low = down
    return out
