"""A chapter as the checks see it: numbered cells, their syntax trees, and the prose in them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmabs_lite.press.folding import title_of
from fmabs_lite.press.plan import without_magics

LIVE = ("explore", "play", "drag", "paint")  # figures whose alt text stands in the call


@dataclass(frozen=True)
class Cell:
    """One cell; `number` counts from 1, as a reader would."""

    number: int
    kind: str  # "markdown" or "code"
    source: str
    raw: dict[str, Any] = field(repr=False)

    def tagged(self, tag: str) -> bool:
        return tag in self.metadata.get("tags", [])

    @property
    def metadata(self) -> dict[str, Any]:
        return self.raw.get("metadata", {})

    @property
    def tree(self) -> ast.Module:
        """The syntax tree of a code cell; empty where it does not parse (`parse_error` says so)."""
        try:
            return ast.parse(without_magics(self.source))
        except SyntaxError:
            return ast.Module(body=[], type_ignores=[])

    @property
    def parse_error(self) -> str | None:
        try:
            ast.parse(without_magics(self.source))
        except SyntaxError as error:
            return f"{error.msg} (line {error.lineno})"
        return None


@dataclass(frozen=True)
class Notebook:
    """A chapter's .ipynb file."""

    path: Path
    cells: list[Cell]
    metadata: dict[str, Any] = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Notebook:
        raw = json.loads(path.read_text(encoding="utf-8"))
        cells = [
            Cell(number, cell["cell_type"], "".join(cell["source"]), cell)
            for number, cell in enumerate(raw["cells"], start=1)
        ]
        return cls(path, cells, raw.get("metadata", {}))

    def write(self) -> None:
        """Write the cells back; the rest of the file is kept."""
        raw = json.loads(self.path.read_text(encoding="utf-8"))
        raw["cells"] = [cell.raw for cell in self.cells]
        text = json.dumps(raw, indent=1, ensure_ascii=False) + "\n"
        self.path.write_text(text, encoding="utf-8")

    def code(self, tag: str | None = None) -> list[Cell]:
        return [c for c in self.cells if c.kind == "code" and (tag is None or c.tagged(tag))]

    def markdown(self) -> list[Cell]:
        return [c for c in self.cells if c.kind == "markdown"]

    def problem(self, cell: Cell | None, text: str) -> str:
        place = f" cell {cell.number}" if cell else ""
        return f"{self.path.parent.name}/{self.path.name}{place}: {text}"


def without_code(markdown: str) -> str:
    """Markdown without fenced and inline code, HTML comments and the addresses of links."""
    text = re.sub(
        r"^[ \t>]*(`{3,}|~{3,}).*?(^[ \t>]*\1[ \t]*$|\Z)", "", markdown, flags=re.S | re.M
    )
    text = re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", text)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    return re.sub(r"\]\([^)]*\)|<https?://[^>]*>|https?://\S+", "]", text)


def without_math(markdown: str) -> str:
    return re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$", "", markdown, flags=re.S)


def prose(notebook: Notebook) -> Iterator[tuple[Cell, str]]:
    """All that a reader reads as text: Markdown, titles, alt texts, captions, what say() shows."""
    for cell in notebook.cells:
        if cell.kind == "markdown":
            yield cell, cell.source
            continue
        yield cell, title_of(cell.source)
        figure = cell.metadata.get("mystnb", {})
        yield cell, str(figure.get("image", {}).get("alt", ""))
        yield cell, str(figure.get("figure", {}).get("caption", ""))
        for node in ast.walk(cell.tree):
            if isinstance(node, ast.Call) and called_name(node) == "say":
                yield cell, "".join(typed_text(argument) for argument in node.args)
            if isinstance(node, ast.Call) and called_name(node) in LIVE:
                told = (k.value for k in node.keywords if k.arg in ("alt", "transcript"))
                yield from ((cell, typed_text(text)) for text in told)


def typed_text(node: ast.expr) -> str:
    """The letters of a string or f-string, with … for each value that is computed."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(typed_text(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return typed_text(node.left) + typed_text(node.right)
    return "…"


def called_name(call: ast.Call) -> str:
    """`plt.show` of `plt.show()`, `say` of `say(...)`; empty for what is not a dotted name."""
    parts: list[str] = []
    target: ast.expr = call.func
    while isinstance(target, ast.Attribute):
        parts.append(target.attr)
        target = target.value
    return ".".join([target.id, *reversed(parts)]) if isinstance(target, ast.Name) else ""
