"""Checks of a chapter's frame: its fixed parts, cells, figures and exercises."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from fmabs_lite.press.checks.address import badges, setup_source
from fmabs_lite.press.checks.notebook import LIVE, Cell, Notebook, called_name, typed_text
from fmabs_lite.press.folding import FOLD, OF_EDITORS

TAGS = {
    "setup", "parameters", "fold", "defines", "idea", "exercise", "opening", "rows",
    "raises-exception",
    "hide-output", "remove-input", "remove-output", "remove-cell",
}  # fmt: skip
WITH_WEIGHTS = {"fmabs_lite.models.backbones", "fmabs_lite.models.prior"}
HEADINGS = (
    "What you will be able to do",
    "What you need first",
    "What you learned",
    "Further reading",
)
LONGEST_CELL = 40  # lines, not counting imports: a list of names is no step
DRAWS = {"plt.show", "plt.figure", "plt.subplots"}
BRANCHES = {"quick", "is_quick", "profile", "ci", "in_ci", "testing", "smoke", "fast", "colab"}


def check_stored(notebook: Notebook) -> list[str]:
    """The notebook is stored without outputs, counts, and what editors and tools leave in it."""
    problems = [
        notebook.problem(cell, "holds outputs or a count; clear all outputs before saving")
        for cell in notebook.code()
        if cell.raw.get("outputs") or cell.raw.get("execution_count") is not None
    ]
    extra = set(notebook.metadata) - {"kernelspec", "language_info"}
    if extra:
        text = f"metadata of tools ({', '.join(sorted(extra))}); keep the kernel only"
        problems.append(notebook.problem(None, text))
    for cell in notebook.cells:
        if left := set(cell.metadata) - {"tags", "mystnb", *OF_EDITORS}:
            text = f"metadata {', '.join(sorted(left))} serve no reader; remove them"
            problems.append(notebook.problem(cell, text))
        if unknown := set(cell.metadata.get("tags", [])) - TAGS:
            text = f"unknown tag {', '.join(sorted(unknown))}; use one of {', '.join(sorted(TAGS))}"
            problems.append(notebook.problem(cell, text))
    return problems


def check_code(notebook: Notebook) -> list[str]:
    """Code cells parse, fit on a screen, and hold no branch for tests or quick runs."""
    problems = []
    for cell in notebook.code():
        if cell.parse_error:
            problems.append(notebook.problem(cell, f"is not Python: {cell.parse_error}"))
        lines = len(cell.source.splitlines()) - sum(map(_import_lines, cell.tree.body))
        if lines > LONGEST_CELL:
            text = f"has {lines} lines, more than a screen of {LONGEST_CELL}; take a smaller step"
            problems.append(notebook.problem(cell, text))
        for node in ast.walk(cell.tree):
            if isinstance(node, ast.If | ast.IfExp | ast.While) and (name := _branch(node.test)):
                text = f"branches on `{name}`; profiles differ by parameter values only"
                problems.append(notebook.problem(cell, text))
    return problems


def _import_lines(node: ast.stmt) -> int:
    is_import = isinstance(node, ast.Import | ast.ImportFrom)
    return node.end_lineno - node.lineno + 1 if is_import else 0


def _branch(test: ast.expr) -> str:
    for node in ast.walk(test):
        if isinstance(node, ast.Name) and node.id.lower() in BRANCHES:
            return node.id
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"):
            return node.attr
    return ""


def check_figures(notebook: Notebook) -> list[str]:
    """Every cell that draws has an alt text, a caption and a name of its own.

    A cell with a live figure says its alt text there: metadata reach one picture, not all frames.
    One that calls diagram needs none: the alt text is made from the parts that are drawn.
    """
    problems = [
        notebook.problem(cell, f'calls {name} without alt="…"; say there what it shows')
        for cell in notebook.code()
        for call in _calls(cell.tree)
        if (name := called_name(call)) in LIVE and not _written_alt(call)
    ]
    names: set[str] = set()
    for cell in notebook.code():
        figure = cell.metadata.get("mystnb", {})
        given = {
            "image.alt": figure.get("image", {}).get("alt", "").strip(),
            "figure.caption": figure.get("figure", {}).get("caption", "").strip(),
            "figure.name": figure.get("figure", {}).get("name", "").strip(),
        }
        if not (figure or draws(cell.tree)):
            continue
        if missing := [key for key, text in given.items() if not text]:
            text = f"draws a figure but its metadata lack mystnb {', '.join(missing)}; add them"
            problems.append(notebook.problem(cell, text))
        elif given["image.alt"] == given["figure.caption"]:
            text = "alt text repeats the caption; say what is to be seen to one who cannot see it"
            problems.append(notebook.problem(cell, text))
        if given["figure.name"] in names:
            text = f"figure name {given['figure.name']} is taken by an earlier cell; rename it"
            problems.append(notebook.problem(cell, text))
        names |= {given["figure.name"]} - {""}
    return problems


def draws(tree: ast.Module) -> bool:
    """Whether running the cell makes a figure; functions it only defines do not count."""
    return any(
        called_name(call) in DRAWS or called_name(call).startswith("show_") for call in _calls(tree)
    )


def _written_alt(call: ast.Call) -> str:
    """The letters of the string that the call gives as alt; none of one that is not typed here."""
    given = next((keyword.value for keyword in call.keywords if keyword.arg == "alt"), None)
    return typed_text(given).strip(" …") if given else ""


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    """The calls that running the cell makes, without those inside functions it only defines."""
    return (node for node in _run_at_once(tree.body) if isinstance(node, ast.Call))


def _run_at_once(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    for node in nodes:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield node
            yield from _run_at_once(ast.iter_child_nodes(node))


def check_frame(notebook: Notebook, repository: str) -> list[str]:
    """Title, badges, the four headings in order, set-up, parameters, further reading."""
    said = [*_opening(notebook, repository), *_headings(notebook), *_setup(notebook, repository)]
    return [notebook.problem(cell, text) for cell, text in [*said, *_parameters(notebook)]]


def _opening(notebook: Notebook, repository: str) -> Iterator[tuple[Cell | None, str]]:
    texts = notebook.markdown()
    title = texts[0].source.strip().splitlines()[0] if texts else ""
    if not (title.startswith("# ") and title.endswith("?")):
        yield (texts or [None])[0], "the first line is no title (`# …?`) that asks a question"
    heads = [c for c in texts for line in _lines(c) if line.startswith("# ")]
    for cell in heads[1:]:
        yield cell, "a second title; use `##`, a page has one"
    row = badges(repository, notebook.path.name)
    if not any(row in cell.source for cell in texts[:2]):
        yield None, f"the badge row is missing or altered; below the title put: {row}"


def _lines(cell: Cell) -> list[str]:
    """Lines of a Markdown cell outside code fences."""
    return re.sub(r"^```.*?^```", "", cell.source, flags=re.S | re.M).splitlines()


def _headings(notebook: Notebook) -> Iterator[tuple[Cell | None, str]]:
    lines = [line for cell in notebook.markdown() for line in _lines(cell)]
    places = [
        next((n for n, line in enumerate(lines) if heading.lower() in line.lower()), None)
        for heading in HEADINGS
    ]
    for heading, place in zip(HEADINGS, places, strict=True):
        if place is None:
            yield None, f"the part “{heading}” is missing; see the frame of a chapter"
    if None in places:
        return
    if places != sorted(places):
        yield None, f"the parts stand in another order than {', '.join(HEADINGS)}; move them"
    do, need, _, reading = places
    bullets = [line for line in lines[do:need] if re.match(r"[-*] ", line)]
    if not 3 <= len(bullets) <= 5:
        yield None, f"“{HEADINGS[0]}” has {len(bullets)} bullets; a reader keeps three to five"
    needs = "\n".join(lines[need : need + 12])
    if not (re.search("minute|second", needs) and re.search("CPU|core", needs) and "GPU" in needs):
        yield None, f"“{HEADINGS[1]}” does not say how long it takes on CPU and GPU; add that"
    if not re.search(r"https://(?:doi\.org|arxiv\.org)/", "\n".join(lines[reading:])):
        yield None, "“Further reading” has no link to doi.org; add the DOI of each paper"


def _setup(notebook: Notebook, repository: str) -> Iterator[tuple[Cell | None, str]]:
    cells = notebook.code("setup")
    if len(cells) != 1 or notebook.code()[0] != cells[0]:
        yield None, "the first code cell, and no other, is the set-up cell with the tag `setup`"
    elif cells[0].source.strip() != (expected := setup_source(repository, extra_of(notebook))):
        yield cells[0], f"the set-up cell differs from that of all chapters; write:\n{expected}"
    elif not cells[0].tagged(FOLD):
        yield cells[0], "the set-up cell is not tagged `fold`; add the tag"


def extra_of(notebook: Notebook) -> str:
    """The extra of the package that a chapter needs: ImageNet's weights, or none."""
    nodes = (node for cell in notebook.code() for node in ast.walk(cell.tree))
    used = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    return "weights" if used & WITH_WEIGHTS else ""


def _parameters(notebook: Notebook) -> Iterator[tuple[Cell | None, str]]:
    cells = notebook.code("parameters")
    if len(cells) != 1:
        yield None, f"{len(cells)} cells are tagged `parameters`; a chapter has one"
        return
    (cell,) = cells
    title, *lines = cell.source.splitlines() or [""]
    if title != "# @title Parameters" or not cell.tagged(FOLD):
        yield cell, "the parameters cell is not tagged `fold` or lacks `# @title Parameters` on top"
    for line in lines:
        if line.strip() and not re.match(r"\w+ = \S.*  # \S", line):
            yield cell, f"`{line}` is not `name = value  # what it is`; one a line, with a comment"
    reads = any("open_data(" in other.source for other in notebook.code())
    named = re.search(r"^data = ", cell.source, flags=re.M)
    if (reads or named) and not re.search(r'^data = ""', cell.source, flags=re.M):
        yield cell, '`data = ""` is missing; every chapter with data takes a folder with real data'


def check_exercises(notebook: Notebook, registered: set[str]) -> list[str]:
    """Three to five exercises, each with a blank, a check and one folded solution."""
    chapter = notebook.path.name[:2]
    cells = notebook.code("exercise")
    problems = []
    if not 3 <= len(cells) <= 5:
        text = f"has {len(cells)} exercises; three to five are due"
        problems.append(notebook.problem(None, text))
    for count, cell in enumerate(cells, start=1):
        for text in _exercise_problems(notebook, cell, f"{chapter}.{count}", registered):
            problems.append(notebook.problem(cell, text))
    asked = {f"{chapter}.{count}" for count in range(1, len(cells) + 1)}
    for number in sorted(n for n in registered - asked if n.startswith(f"{chapter}.")):
        text = f"lesson/exercises checks {number}, which the chapter does not ask; remove it"
        problems.append(notebook.problem(None, text))
    return problems


def _exercise_problems(
    notebook: Notebook, cell: Cell, number: str, registered: set[str]
) -> Iterator[str]:
    call, name = exercise_check(cell)
    if call != number:
        yield f'ends with {call or "no check"}; the last line is `check("{number}", name)`'
        return
    if number not in registered:
        file = f"fmabs_lite/lesson/exercises/chapter_{number[:2]}.py"
        yield f"exercise {number} has no check; add one to {file}"
    if not any(isinstance(n, ast.Constant) and n.value is ... for n in ast.walk(cell.tree)):
        yield "the blank holds no `...`; put it where the reader's answer goes"
    try:
        solution = solution_of(notebook, cell)
    except ValueError as error:
        yield str(error)
        return
    if name not in _assigned(ast.parse(solution)):
        yield f"the solution does not define `{name}`; it replaces the whole cell but the check"


def exercise_check(cell: Cell) -> tuple[str, str]:
    """The number and the answer's name in the `check("02.1", name)` that ends an exercise."""
    last = cell.tree.body[-1] if cell.tree.body else None
    call = last.value if isinstance(last, ast.Expr) else None
    if isinstance(call, ast.Call) and called_name(call) == "check" and len(call.args) == 2:
        number, answer = call.args
        if isinstance(number, ast.Constant) and isinstance(answer, ast.Name):
            return str(number.value), answer.id
    return "", ""


def solution_of(notebook: Notebook, cell: Cell) -> str:
    """The Python of the folded solution after an exercise cell, without the check.

    Raises ValueError when the next cell holds no `<details>` with exactly one code fence, or when
    its code does not parse or calls `check` itself.
    """
    following = notebook.cells[cell.number] if cell.number < len(notebook.cells) else None
    text = following.source if following and following.kind == "markdown" else ""
    folded = re.findall(r"<details>\s*<summary>(.*?)</summary>\n\s*\n(.*?)</details>", text, re.S)
    if len(folded) != 1:
        raise ValueError(
            "the next cell holds no folded solution: <details><summary>Solution</summary>, a blank "
            "line, one ```python block, </details>"
        )
    fences = re.findall(r"^```python\n(.*?)^```[ \t]*$", folded[0][1], flags=re.S | re.M)
    if len(fences) != 1 or text.count("```") != 2:
        raise ValueError("the solution holds exactly one ```python block; put the rest in words")
    try:
        tree = ast.parse(fences[0])
    except SyntaxError as error:
        raise ValueError(f"the solution is not Python: {error.msg} (line {error.lineno})") from None
    if any(isinstance(n, ast.Call) and called_name(n) == "check" for n in ast.walk(tree)):
        raise ValueError("the solution calls check; leave that line to the cell")
    return fences[0]


def _assigned(tree: ast.Module) -> set[str]:
    names = [n for n in ast.walk(tree) if isinstance(n, ast.Name)]
    defined = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    return defined | {name.id for name in names if isinstance(name.ctx, ast.Store)}


def registered_exercises(repo: Path) -> set[str]:
    """The numbers in the `@exercise("02.1")` lines of fmabs_lite/lesson/exercises."""
    files = sorted((repo / "fmabs_lite" / "lesson" / "exercises").glob("chapter_*.py"))
    source = "\n".join(path.read_text(encoding="utf-8") for path in files)
    return set(re.findall(r'^@exercise\("([^"]+)"\)', source, flags=re.M))
