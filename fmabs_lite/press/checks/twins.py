"""Code shown = code shipped: a cell tagged `defines` and its twin in the package.

Two twins are equal when their syntax trees are, without docstrings, annotations and magics but
with decorators, and when every free name means the same object in both: imported from the same
place, defined by the same twin, or a constant of the same value.
"""

from __future__ import annotations

import ast
import builtins
import difflib
import re
import symtable
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fmabs_lite.press.checks.notebook import Cell, Notebook
from fmabs_lite.press.plan import without_magics

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Module:
    """One source file of the package."""

    name: str  # dotted, as imported
    source: str
    is_package: bool

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @cached_property
    def bindings(self) -> dict[str, str]:
        return bindings(self.tree.body, self.name, self.is_package)

    def definition(self, name: str) -> Definition | None:
        found = [n for n in self.tree.body if isinstance(n, Definition) and n.name == name]
        return found[-1] if found else None


class Package:
    """The sources of `fmabs_lite` under a repository, by module name; nothing is imported."""

    def __init__(self, repo: Path) -> None:
        self.modules: dict[str, Module] = {}
        for path in sorted((repo / "fmabs_lite").rglob("*.py")):
            parts = list(path.relative_to(repo).with_suffix("").parts)
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            self.modules[name] = Module(name, path.read_text(encoding="utf-8"), is_package)

    def homes(self, name: str) -> list[Module]:
        """The modules that define `name` at their top level."""
        return [module for module in self.modules.values() if module.definition(name)]

    def origin(self, binding: str | None) -> str | None:
        """Follow a name that one module imports from another to where it is defined."""
        seen: set[str | None] = set()
        while binding not in seen:
            seen.add(binding)
            module, _, name = (binding or "").rpartition(".")
            if module in self.modules and not self.modules[module].definition(name):
                binding = self.modules[module].bindings.get(name, binding)
        return binding


def bindings(body: Iterable[ast.stmt], module: str, is_package: bool = False) -> dict[str, str]:
    """What each top-level name stands for: a dotted origin, or `value: <syntax tree>`."""
    found: dict[str, str] = {}
    for node in body:
        if isinstance(node, ast.Import):
            for item in node.names:
                root = item.name.partition(".")[0]
                found[item.asname or root] = item.name if item.asname else root
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(node, module, is_package)
            found |= {item.asname or item.name: f"{source}.{item.name}" for item in node.names}
        elif isinstance(node, Definition):
            found[node.name] = f"{module}.{node.name}"
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name):
                        found[name.id] = f"value: {ast.unparse(node.value)}"
        for part in ("body", "handlers", "orelse", "finalbody"):  # inside try, if, with, for
            if not isinstance(node, Definition):
                found |= bindings(getattr(node, part, []), module, is_package)
    return found


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parents = module.split(".")
    keep = len(parents) - node.level + is_package
    return ".".join(parents[:keep] + ([node.module] if node.module else []))


class _Bare(ast.NodeTransformer):
    """Drops docstrings and annotations. A class's annotated fields stay fields (dataclasses)."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        node.body = self._without_docstring(node.body)
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = self._without_docstring(node.body)
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign):
                statement.annotation = ast.Constant("a field")
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if isinstance(node.annotation, ast.Constant) and node.annotation.value == "a field":
            return self.generic_visit(node)
        return self.generic_visit(ast.Assign([node.target], node.value)) if node.value else None

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    @staticmethod
    def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
        return (body[1:] or [ast.Pass()]) if _docstring(body) else body


def _docstring(body: list[ast.stmt]) -> ast.Expr | None:
    first = body[0] if body else None
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return first if is_text and isinstance(first.value.value, str) else None


def bare(source: str) -> str:
    """The source as the twins' comparison sees it."""
    return ast.unparse(ast.fix_missing_locations(_Bare().visit(ast.parse(source))))


def free_names(source: str) -> set[str]:
    """The names a definition takes from its module, without its own."""
    top = symtable.symtable(source, "cell", "exec")
    own = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned()}
    own |= {table.get_name() for table in top.get_children()}
    found: set[str] = set()
    tables = [top]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        found |= {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and (table is top or symbol.is_global())
        }
    return found - own


def check_twins(notebook: Notebook, package: Package) -> list[str]:
    """Every `defines` cell holds one whole function or class, equal to the package's."""
    problems: list[str] = []
    known: dict[str, str] = {}  # what each name stands for when the cell runs
    for cell in notebook.code():
        if not cell.tagged("defines"):
            known |= bindings(cell.tree.body, "this chapter")
            continue
        twin = _twin(cell, package)
        if isinstance(twin, str):
            problems.append(notebook.problem(cell, twin))
            continue
        module, shipped = twin
        problems += [notebook.problem(cell, text) for text in _differences(cell, *twin)]
        problems += [
            notebook.problem(cell, text)
            for text in _strangers(bare(_text(module, shipped)), known, module, package)
        ]
        known[shipped.name] = f"{module.name}.{shipped.name}"
    return problems


def _twin(cell: Cell, package: Package) -> tuple[Module, Definition] | str:
    """The package's definition for a `defines` cell, or what is wrong with the cell."""
    body = [node for node in cell.tree.body if not isinstance(node, ast.Pass)]  # Pass: magics
    if len(body) != 1 or not isinstance(body[0], Definition):
        return (
            "a cell tagged `defines` holds exactly one whole function or class; move the rest "
            "to another cell"
        )
    name = body[0].name
    homes = package.homes(name)
    if not homes:
        return f"the package defines no `{name}`; ship it in fmabs_lite or drop the tag `defines`"
    if len(homes) > 1:
        places = ", ".join(module.name for module in homes)
        return f"`{name}` is defined in {places}; give each its own name, so that the twin is clear"
    return homes[0], homes[0].definition(name)


UNSHOWN = "recorded"  # a decorator for files, above all others: a chapter has no use for it


def _text(module: Module, definition: Definition) -> str:
    shown = [d for d in definition.decorator_list if UNSHOWN not in ast.unparse(d)]
    first = min([definition.lineno, *(d.lineno for d in shown)])
    return "\n".join(module.source.splitlines()[first - 1 : definition.end_lineno])


def _differences(cell: Cell, module: Module, shipped: Definition) -> list[str]:
    shown = bare("\n".join(_code_lines(cell))).splitlines()
    twin = bare(_text(module, shipped)).splitlines()
    changed = [line for line in difflib.ndiff(twin, shown) if line[0] in "+-"]
    if not changed:
        return []
    return [
        f"`{shipped.name}` differs from {module.name} (- package, + cell): "
        f"{' | '.join(line for line in changed[:4])}; run `fmabs-lite sync` to take the package's"
    ]


def _code_lines(cell: Cell) -> list[str]:
    return [
        line
        for line, plain in zip(
            cell.source.splitlines(), without_magics(cell.source).splitlines(), strict=True
        )
        if line == plain
    ]


def _strangers(
    source: str, known: dict[str, str], module: Module, package: Package
) -> Iterable[str]:
    for name in sorted(free_names(source)):
        here = package.origin(known.get(name))
        there = package.origin(module.bindings.get(name))
        if here == there and (here or hasattr(builtins, name)):
            continue
        yield (
            f"`{name}` is {here or 'not defined before this cell'} here but "
            f"{there or 'a builtin'} in {module.name}; import or define the same object earlier"
        )


def sync_twins(repo: Path) -> list[str]:
    """Rewrite every `defines` cell that differs from its twin; returns the cells changed.

    The cell gets the package's text, each docstring shortened to its first line, and without
    annotations when it had none before. The rest of the file is kept.
    """
    package = Package(repo)
    changed: list[str] = []
    for path in sorted((repo / "book").glob("*.ipynb")):
        notebook = Notebook.read(path)
        before = len(changed)
        for cell in notebook.code("defines"):
            twin = _twin(cell, package)
            if isinstance(twin, str) or not _differences(cell, *twin):
                continue
            magics = [line for line in cell.source.splitlines() if line not in _code_lines(cell)]
            text = _for_reading(_text(*twin), annotated=_has_annotations(cell.tree))
            cell.raw["source"] = "\n".join([*magics, text]).splitlines(keepends=True)
            changed.append(notebook.problem(cell, f"`{twin[1].name}` taken from {twin[0].name}"))
        if len(changed) > before:
            notebook.write()
    return changed


def _has_annotations(tree: ast.Module) -> bool:
    return any(
        getattr(node, "annotation", None) or getattr(node, "returns", None)
        for node in ast.walk(tree)
    )


def _for_reading(source: str, annotated: bool) -> str:
    """The source with one-line docstrings, and without annotations unless `annotated`."""
    lines = source.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def place(line: int, column: int) -> int:
        return starts[line - 1] + column

    edits: list[tuple[int, int, bytes]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Definition) and (text := _docstring(node.body)):
            first_line = text.value.value.strip().splitlines()[0]
            span = place(text.lineno, text.col_offset), place(text.end_lineno, text.end_col_offset)
            edits.append((*span, f'"""{first_line}"""'.encode()))
        if not annotated:
            edits += _annotation_edits(node, source.encode(), place)
    whole = source.encode()
    for start, end, text in sorted(edits, reverse=True):
        whole = whole[:start] + text + whole[end:]
    return whole.decode()


def _annotation_edits(node: ast.AST, source: bytes, place) -> Iterable[tuple[int, int, bytes]]:
    """Cut `: X` after a parameter (and the blanks around its `=`) and `-> X` after a signature."""
    if isinstance(node, ast.arg) and node.annotation:
        start = place(node.lineno, node.col_offset) + len(node.arg.encode())
        end = place(node.annotation.end_lineno, node.annotation.end_col_offset)
        equals = re.match(rb" = ", source[end:])
        yield (start, end + 3, b"=") if equals else (start, end, b"")
    returns = getattr(node, "returns", None)
    if returns:
        end = place(returns.end_lineno, returns.end_col_offset)
        arrow = source.rindex(b"->", 0, place(returns.lineno, returns.col_offset))
        yield len(source[:arrow].rstrip()), end, b""
