"""Each check passes the sound chapter below, and fails it after one mistake."""

from __future__ import annotations

import ast
import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fmabs_lite.lesson.records import content_checksum
from fmabs_lite.press.checks import check_records, fork, run_checks, sync
from fmabs_lite.press.checks.lines import OpenCode, line_table, open_code, over_limits
from fmabs_lite.press.checks.notebook import Notebook, without_code
from fmabs_lite.press.checks.prose import html_problems, sentences, typed_results
from fmabs_lite.press.checks.twins import bare, bindings, free_names

URL = "https://github.com/fmabs-lite/fmabs-lite"
BADGES = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/fmabs-lite/fmabs-lite/blob/main/book/02_area.ipynb)"
    f" [Source]({URL}/blob/main/book/02_area.ipynb)"
)
SETUP = f"""# @title Set-up
try:
    import fmabs_lite
except ModuleNotFoundError:  # on Colab, or where it is not installed yet
    %pip install -q git+{URL}"""
PARAMETERS = """# @title Parameters
steps = 5  # points on the grid
data = ""  # a folder"""
FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}}
PACKAGE = '''"""Areas."""
import numpy as np
from torch.nn import functional as F

LIMIT = 0.3


def clip(x: np.ndarray, low: float = 0.0) -> np.ndarray:
    """Clip at LIMIT.

    More words that only the package holds.
    """
    return np.clip(x, low, LIMIT)


def area(x: np.ndarray, y: np.ndarray) -> float:
    """The area under y over x."""
    y = clip(y)  # why: a comment that stays
    return float(np.trapezoid(y, x)) + 0 * len(F.__name__)
'''
AREA = '''def area(x, y):
    """The area under y over x."""
    y = clip(y)
    return float(np.trapezoid(y, x)) + 0 * len(F.__name__)'''
IMPORTS = """import matplotlib.pyplot as plt
import numpy as np
import torch.nn.functional as F

from fmabs_lite.areas import clip
from fmabs_lite.lesson.exercises import check
from fmabs_lite.lesson.plots import say"""
FIGURE = {
    "image": {"alt": "A straight line that rises from the lower left to the upper right."},
    "figure": {"caption": "A line.", "name": "fig-02-line"},
}


def text(source: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": source.splitlines(keepends=True)}


def code(source: str, *tags: str, **metadata) -> dict:
    cell = {"cell_type": "code", "execution_count": None, "metadata": metadata, "outputs": []}
    if tags:
        cell["metadata"]["tags"] = list(tags)
    return cell | {"source": source.splitlines(keepends=True)}


def exercise(number: int) -> list[dict]:
    return [
        text(f"**Exercise {number}.** Double the area."),
        code(f'double_{number} = ...\ncheck("02.{number}", double_{number})', "exercise"),
        text(
            "<details><summary>Solution</summary>\n\n```python\n"
            f"double_{number} = 2 * area(grid, grid)\n```\n\n</details>"
        ),
    ]


def sound_chapter() -> list[dict]:
    """Cells that every check accepts; the tests below name them by their place."""
    return [
        text("# What is an area?"),
        text(BADGES),
        text(
            "**What you will be able to do**\n\n- one\n- two\n- three\n\n"
            "**What you need first**: nothing. Two minutes on a CPU, one on a GPU."
        ),
        code(SETUP, "setup", "fold", **FOLDED),
        code(IMPORTS),
        code(PARAMETERS, "parameters", "fold", **FOLDED),
        text(
            "Equation 3 is $$ A = \\int y\\,dx \\tag{3} $$ and [this page](index.md) says more.\n\n"
            "FMABS prints an AUROC of 97.3 for it (Table 4 of FMABS)."
        ),
        code(AREA, "defines"),
        code(
            "grid = np.linspace(0, 1, steps)\nsay(f'{data} The AUROC is {area(grid, grid):.2f}.')"
        ),
        code("plt.plot(grid, grid)\nplt.show()", mystnb=copy.deepcopy(FIGURE)),
        *exercise(1),
        *exercise(2),
        *exercise(3),
        text("## What you learned\n\nAreas add up."),
        text("## Further reading\n\n[A book](https://doi.org/10.1000/182)"),
    ]


CHAPTER = "book/02_area.ipynb"
MEASURED = {"device": "cpu", "seconds": 1.0, "data": {}, "versions": {}, "finished": "today"}
RECORD = {
    "provenance": {"chapter": "02_area", "profile": "cpu", "parameters": {"seeds": 3}} | MEASURED,
    "results": {"area": [0.1]},
}
RECORD["provenance"]["checksum"] = content_checksum(RECORD)
SUM = f', "checksum": "{RECORD["provenance"]["checksum"]}"'
FILES = {
    "_config.yml": f"title: Areas\nrepository:\n  url: {URL}\n",
    "README.md": f"# Areas\n\nSee [the book](book/index.md) at {URL}.\n",
    "book/index.md": "# Areas\n\nThe AUROC of a coin is 0.5.\n",
    "book/_toc.yml": "format: jb-book\nroot: index\nchapters:\n  - file: 02_area\n",
    "book/profiles.yml": "quick:\n  02_area: {steps: 5}\ncpu:\n  02_area: {steps: 9}\nfull: {}\n",
    "book/paper_tables.yml": "tables: {fmabs-4: {columns: [a, b], rows: [[screw, 97.3]]}}\n",
    "book/records/02_area.cpu.json": json.dumps(RECORD),
    "fmabs_lite/__init__.py": "",
    "fmabs_lite/areas.py": PACKAGE,
    "fmabs_lite/lesson/exercises/chapter_02.py": "".join(
        f'@exercise("02.{number}")\ndef check_{number}(answer): ...\n' for number in (1, 2, 3)
    ),
}


def write_notebook(path: Path, cells: list[dict], **metadata) -> None:
    cells = [{**cell, "id": f"cell-{number}"} for number, cell in enumerate(cells)]
    notebook = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository that the checks have nothing to say about."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    write_notebook(tmp_path / CHAPTER, sound_chapter())
    return tmp_path


def test_the_sound_repository_has_no_findings(repo):
    assert run_checks(repo) == []


def cell_with(cells: list[dict], part: str) -> dict:
    return next(cell for cell in cells if part in "".join(cell["source"]))


def replace(old: str, new: str) -> Callable[[list[dict]], None]:
    """A mistake: `old` becomes `new` in the first cell that holds it."""

    def spoil(cells: list[dict]) -> None:
        cell = cell_with(cells, old)
        source = "".join(cell["source"]).replace(old, new, 1)
        cell["source"] = source.splitlines(keepends=True)

    return spoil


def change(part: str, key: str, value) -> Callable[[list[dict]], None]:
    def spoil(cells: list[dict]) -> None:
        cell_with(cells, part)[key] = value

    return spoil


def add(cell: dict, place: int = 7) -> Callable[[list[dict]], None]:
    return lambda cells: cells.insert(place, copy.deepcopy(cell))


def drop(part: str) -> Callable[[list[dict]], None]:
    return lambda cells: cells.remove(cell_with(cells, part))


def figure(**changes) -> Callable[[list[dict]], None]:
    return change("plt.plot", "metadata", {"mystnb": FIGURE | changes})


MISTAKES = {  # what the finding says, and the mistake
    # code shown = code shipped
    "`area` differs from fmabs_lite.areas": replace("y = clip(y)", "y = clip(2 * y)"),
    "exactly one whole function or class": replace("def area", "limit = 3\ndef area"),
    "the package defines no `surface`": replace("def area", "def surface"),
    "`F` is torch.functional here but torch.nn.functional": replace(
        "import torch.nn.functional as F", "import torch.functional as F"
    ),
    "`clip` is this chapter.clip here but fmabs_lite.areas.clip": replace(
        "from fmabs_lite.areas import clip", "def clip(y):\n    return y"
    ),
    "`np` is not defined before this cell here": replace("import numpy as np\n", ""),
    # portable Markdown
    "a role (`{cite}`": add(text("See {cite}`wang2021`.")),
    "a directive (": add(text("```{note}\nThis.\n```")),
    "a `:::` block": add(text(":::note\nThis.\n:::")),
    "an alert of GitHub's": add(text("> [!NOTE]\n> This.")),
    "a label": add(text("(here)=\nThis.")),
    "a footnote": add(text("This.[^1]")),
    "a `$$` block is not closed": replace("\\tag{3} $$", "\\tag{3}"),
    "a blank line inside `$$`": replace("$$ A =", "$$ A =\n\n"),
    "`\\begin{` outside `$$`": add(text("\\begin{align}\na &= b\n\\end{align}")),
    # HTML
    "`<script>` is HTML": add(text("<script>alert(1)</script>")),
    "`<img src=x onerror=alert(1)>` is HTML": add(text("A <img src=x onerror=alert(1)> picture.")),
    "`<details ontoggle=x>` is HTML": add(text("<details ontoggle=x>a</details>")),
    "`<IFRAME src=x` is HTML": add(text("See <IFRAME src=x")),
    "`<b>` is HTML": add(code("say('It is <b>large</b>.')")),
    "the link javascript:alert is no": add(text("[a](javascript:alert)")),
    # links
    "the link nowhere.md leads to no file": replace("index.md", "nowhere.md"),
    "starts at a root no reader has": replace("index.md", "/book/index.md"),
    "leaves the reader's copy": replace("(index.md)", f"({URL}/blob/main/book/index.md)"),
    # typed results
    "98.1 in “We reach an AUROC of 98.1.”": add(text("We reach an AUROC of 98.1.")),
    "12 % in “It is 12 % faster.”": add(text("It is 12 % faster.")),
    "2.1 in “A gain of 2.1 points.”": add(code("say('A gain of 2.1 points.')")),
    "0.91 in “PRO 0.91 on screws.”": figure(
        figure={"caption": "PRO 0.91 on screws.", "name": "fig-02-line"}
    ),
    "97.4 in “FMABS prints an AUROC of 97.4": replace("AUROC of 97.3", "AUROC of 97.4"),
    "stands in no cell of the table": replace("Table 4 of FMABS", "Table 5 of FMABS"),
    # stored state
    "holds outputs or a count": change("plt.plot", "execution_count", 3),
    "metadata scrolled serve no reader": change("plt.plot", "metadata", {"scrolled": True}),
    "unknown tag define": change("def area", "metadata", {"tags": ["define"]}),
    # code
    "is not Python: ": replace("grid = np", "grid == = np"),
    "has 41 lines": add(code("x = 1\n" * 41)),
    "branches on `QUICK`": add(code("if QUICK:\n    x = 1")),
    "branches on `environ`": add(code("import os\nx = 1 if 'CI' in os.environ else 2")),
    # folded cells
    "its first line is not `# @title": replace("@title Set-up", "Set-up"),
    "its first line is not `# @title What": add(code("# @title\nx = 1", "fold", **FOLDED)),
    "has 61 characters, more than 60": replace("@title Set-up", f"@title {61 * 'x'}"),
    "begins with `# @title` but is not": add(code("# @title The area\nx = 1")),
    "is tagged `fold` but holds no code": change("# What is", "metadata", {"tags": ["fold"]}),
    "is tagged `fold` and `defines`": change("def area", "metadata", {"tags": ["fold", "defines"]}),
    "is tagged `fold` and `idea`": add(code("# @title x\nx = 1", "fold", "idea", **FOLDED)),
    "is tagged `fold` and `exercise`": change(
        'check("02.1"', "metadata", {"tags": ["exercise", "fold"]}
    ),
    "metadata do not fold it": change("try:", "metadata", {"tags": ["setup", "fold"]}),
    "metadata do not fold it as": add(code("x = 1", jupyter={"source_hidden": True})),
    "metadata do not fold it as its": add(code("x = 1", cellView="form")),
    "metadata do not fold it as its tags": change(
        "try:", "metadata", {"tags": ["setup", "fold"], "jupyter": {"source_hidden": False}}
    ),
    # figures
    "lack mystnb image.alt, figure.caption, figure.name": change("plt.plot", "metadata", {}),
    "lack mystnb image.alt": figure(image={"alt": ""}),
    "lack mystnb figure.name": figure(figure={"caption": "A line."}),
    "alt text repeats the caption": figure(image={"alt": "A line."}),
    "figure name fig-02-line is taken": add(code("show_images([])", mystnb=FIGURE), 12),
    'explore without alt="…"': add(code("explore(lambda k: plt.figure(), k=[1, 2])")),
    # frame
    "no title (`# …?`) that asks a question": replace("an area?", "an area"),
    "a second title": add(text("# Another")),
    "the badge row is missing": replace("/02_area.ipynb)", "/03_area.ipynb)"),
    "the part “What you learned” is missing": drop("What you learned"),
    "the parts stand in another order": lambda cells: cells.append(cells.pop(-2)),
    "has 2 bullets": replace("- three\n", ""),
    "how long it takes on CPU and GPU": replace(", one on a GPU", ""),
    "has no link to doi.org": replace("https://doi.org/10.1000/182", "https://example.org"),
    "the set-up cell differs": replace("pip install -q", "pip install -U"),
    '%pip install -q "fmabs-lite[weights]"': add(
        code("from fmabs_lite.models.backbones import Backbone")
    ),
    "the first code cell, and no other": drop("ModuleNotFoundError"),
    "the set-up cell is not tagged `fold`": change("try:", "metadata", {"tags": ["setup"]}),
    "0 cells are tagged `parameters`": change("steps = 5", "metadata", {}),
    "the parameters cell is not tagged `fold`": change(
        "steps = 5", "metadata", {"tags": ["parameters"]}
    ),
    "or lacks `# @title Parameters` on top": replace("@title Parameters", "@title Numbers"),
    "is not `name = value  # what it is`": replace("steps = 5  # points on the grid", "steps = 5"),
    '`data = ""` is missing': replace('data = "" ', 'data = "mine" '),
    # exercises
    "has 2 exercises": lambda cells: cells.__delitem__(slice(16, 19)),
    "lesson/exercises checks 02.3": drop("02.3"),
    'the last line is `check("02.1", name)`': replace('check("02.1", double_1)', "double_1"),
    "the blank holds no `...`": replace("double_1 = ...", "double_1 = 2"),
    "the next cell holds no folded solution": replace("<details>", "<p>"),
    "exactly one ```python block": replace(
        "\n```\n\n</details>", "\n```\n```python\n```\n\n</details>"
    ),
    "the solution is not Python": replace("double_1 = 2 *", "double_1 = = 2 *"),
    "the solution calls check": replace("2 * area(grid, grid)", "2\ncheck('02.1', double_1)"),
    "the solution does not define `double_1`": replace("double_1 = 2", "doubled = 2"),
    # words
    "“simply” tells a reader": add(text("Simply add.").copy() | {"source": ["We simply add."]}),
    "has 77 characters; break it at 76": add(text(f"```python\n{'x' * 77}\n```")),
    "an exclamation mark in prose (“area!”)": add(text("What an area!")),
    "an exclamation mark in prose (“look!”)": add(code('explore(draw, alt="Just look!", k=[1])')),
    "an exclamation mark in prose (“fast!”)": add(
        code('play(f, s, t, alt="A", transcript="So fast!")')
    ),
    "an exclamation mark in prose (“Parameters!”)": replace("Parameters\n", "Parameters!\n"),
    # parameters, by the runner's rules
    "parameter seeds is never read": replace("steps = 5  #", "seeds = 5  # how many\nsteps = 5  #"),
}


@pytest.mark.parametrize("finding", MISTAKES)
def test_a_mistake_in_a_chapter_is_found(repo, finding):
    cells = sound_chapter()
    MISTAKES[finding](cells)
    assert cells != sound_chapter()
    write_notebook(repo / CHAPTER, cells)
    assert any(finding in problem for problem in run_checks(repo)), run_checks(repo)


@pytest.mark.parametrize(
    "call, found",
    [
        ('explore(draw, alt=f"A line of {steps} points.", k=[1])', 0),  # needs no metadata
        ("def again():\n    explore(draw, k=[1])", 0),
        ("explore(draw, k=[1])", 1),
        ('explore(draw, alt=" ", k=[1])', 1),
        ("explore(draw, alt=f'{steps}', k=[1])", 1),
        ("explore(draw, alt=steps, k=[1])", 1),
        ('play(frames, scores, truth, alt="A street.", transcript=text)', 0),
        ("play(frames, scores, truth, transcript='A street.')", 1),
        ("drag(maps, masks)", 1),
    ],
)
def test_the_alt_text_of_a_live_figure_is_written_in_the_call(repo, call, found):
    source = f"def draw(k):\n    plt.figure()\n\n\n{call}"
    write_notebook(repo / CHAPTER, [*sound_chapter()[:10], code(source), *sound_chapter()[10:]])
    problems = run_checks(repo)
    assert len(problems) == found and all("without alt" in text for text in problems), problems


@pytest.mark.parametrize("call, found", [("", 0), ("\nplt.show()", 1)])
def test_a_diagram_has_its_own_alt_text_and_a_figure_beside_it_has_none(repo, call, found):
    cell = code(f'from fmabs_lite.lesson.diagrams import diagram\n\ndiagram(lit="mimicry"){call}')
    write_notebook(repo / CHAPTER, [*sound_chapter()[:10], cell, *sound_chapter()[10:]])
    problems = run_checks(repo)
    assert len(problems) == found and all("image.alt" in text for text in problems), problems


PAGE_MISTAKES = {
    "README.md: 98.1": ("README.md", "See", "The AUROC is 98.1. See"),
    "README.md: the link": ("README.md", "book/index.md", "book/index.txt"),
    "book/index.md: “Obviously”": ("book/index.md", "The AUROC", "Obviously the AUROC"),
    "02_area is not listed": ("book/_toc.yml", "02_area", "03_area"),
    "there is no such chapter": ("book/profiles.yml", "cpu:\n  02_area", "cpu:\n  02_aera"),
    "no parameter step": ("book/profiles.yml", "{steps: 9}", "{step: 9}"),
    "the notebook opens with {'steps': 5}": ("book/profiles.yml", "{steps: 5}", "{steps: 6}"),
    "is not a record": ("book/records/02_area.cpu.json", '"results"', '"result"'),
    "is damaged (Expecting": ("book/records/02_area.cpu.json", "{", "("),
    "was changed after its run": ("book/records/02_area.cpu.json", "[0.1]", "[0.2]"),
    "sum is unknown": ("book/records/02_area.cpu.json", '"checksum"', '"sum"'),
    "has no checksum": ("book/records/02_area.cpu.json", SUM, ""),
    "area is empty": ("book/records/02_area.cpu.json", "[0.1]", "[]"),
    "fewer than three seeds": ("book/records/02_area.cpu.json", '"seeds": 3', '"seeds": [0, 1]'),
    "another chapter or profile": ("book/records/02_area.cpu.json", '"cpu"', '"full"'),
    "is not a notebook": (CHAPTER, "{", "("),
    "is defined in": ("fmabs_lite/__init__.py", "", "def area(): ..."),
}


def test_only_a_chapter_that_opens_data_takes_a_folder(repo):
    path = repo / CHAPTER
    text_before = path.read_text(encoding="utf-8")
    without = re.sub(r',\s*"data = [^\n]*', "", text_before).replace("{data} ", "")
    assert "data =" not in without
    path.write_text(without, encoding="utf-8")
    assert run_checks(repo) == []
    path.write_text(without.replace("plt.show()", "open_data(3)"), encoding="utf-8")
    assert any("is missing; every chapter with data" in problem for problem in run_checks(repo))


@pytest.mark.parametrize("finding", PAGE_MISTAKES)
def test_a_mistake_in_another_file_is_found(repo, finding):
    name, old, new = PAGE_MISTAKES[finding]
    text_before = (repo / name).read_text(encoding="utf-8")
    assert old in text_before
    (repo / name).write_text(text_before.replace(old, new, 1), encoding="utf-8")
    assert any(finding in problem for problem in run_checks(repo)), run_checks(repo)


HARMLESS = [
    "PRO counts up to 30 % FPR.",
    "A coin has an AUROC of 0.5, a perfect score 1.0 or 100 %.",
    "With $\\lambda = 0.25$ the AUROC is larger.",
    "The AUROC is said by `auroc(0.73)`.",
    "```python\nAUROC = 0.73\n```",
    "The AUROC is explained at [a page](https://doi.org/10.1000/18.2).",
    "A fifth of the pixels, 20.5 %, are dark. The AUROC ignores that.",
    "FMABS prints an AUROC of 97.3 in Table 4.",
]
HARMFUL = [
    "A coin is 0.5 points better.",
    "| system | AUROC |\n|---|---|\n| ours | 0.93 |",
    "The AUROC (see eq. 5) is 93.1 %.",
    "- The AP is\n  7.5 percent.",
    "FMABS prints 97.2 AUROC in Table 4.",
    "We reach 97.3 AUROC.",
]
TABLES = {"fmabs-4": {"rows": [["screw", "97.3 ± 0.1"]]}}


@pytest.mark.parametrize("sentence", HARMLESS)
def test_numbers_that_are_no_results_may_be_typed(sentence):
    assert list(typed_results(sentence, TABLES)) == []


@pytest.mark.parametrize("sentence", HARMFUL)
def test_results_may_not_be_typed(sentence):
    assert len(list(typed_results(sentence, TABLES))) == 1


def test_sentences_end_where_they_end():
    paragraph = "One, e.g. this. Two (eq. 3) goes on\nover a line? Three.\n\n- four\n- five."
    assert [s.strip() for s in sentences(paragraph) if s] == [
        "One, e.g. this.", "Two (eq. 3) goes on\nover a line?", "Three.", "- four", "- five.",
    ]  # fmt: skip


def test_code_is_not_prose():
    markdown = "a `b` ``c ` d``\n```python\ne\n```\nf [g](h) <!-- i --> <https://j.org>"
    assert without_code(markdown).split() == ["a", "f", "[g]", "]"]


def test_bare_drops_docstrings_and_annotations_only():
    shipped = (
        '@cache\ndef f(x: int = 1, *, y: "str") -> int:\n'
        '    """Doc."""\n    z: int = x\n    return z'
    )
    assert bare(shipped) == bare("@cache\ndef f(x=1, *, y):\n    z = x\n    return z")
    assert bare(shipped) != bare("def f(x=1, *, y):\n    z = x\n    return z")
    assert bare("class A:\n    x: int") == bare("class A:\n    '''Doc.'''\n    x: float")
    assert bare("class A:\n    x: int = 3") != bare("class A:\n    x = 3")


def test_free_names_are_those_of_the_module():
    source = """
@decorator(OPTION)
class A(Base):
    field = default
    def method(self, a, b=other):
        import local
        total = [item + a for item in a if helper(item)]
        return local, total, super().method(b), A
"""
    assert free_names(source) == {
        "decorator", "OPTION", "Base", "default", "other", "helper", "super",
    }  # fmt: skip


def test_bindings_follow_every_way_to_name_an_object():
    body = ast.parse(
        "import a.b, c.d as e\nfrom f import g as h\nfrom . import i\nfrom ..j import k\n"
        "try:\n    import l\nexcept ImportError:\n    l = None\nm, n = 1, 2\ndef o(): ..."
    ).body
    assert bindings(body, "pack.sub.mod") == {
        "a": "a", "e": "c.d", "h": "f.g", "i": "pack.sub.i", "k": "pack.j.k",
        "l": "value: None", "m": "value: (1, 2)", "n": "value: (1, 2)", "o": "pack.sub.mod.o",
    }  # fmt: skip
    assert bindings(ast.parse("from .x import y").body, "pack", True) == {"y": "pack.x.y"}


def test_sync_brings_a_cell_up_to_date_and_touches_nothing_else(repo):
    write_notebook(
        repo / CHAPTER, sound_chapter(), kernelspec={"name": "python3", "display_name": "é"}
    )
    before = (repo / CHAPTER).read_text(encoding="utf-8")
    assert sync(repo) == []
    assert (repo / CHAPTER).read_text(encoding="utf-8") == before

    new = PACKAGE.replace("y = clip(y)", "y = clip(np.abs(y), 0.1)")
    (repo / "fmabs_lite/areas.py").write_text(new, encoding="utf-8")
    (changed,) = sync(repo)
    assert changed.startswith("book/02_area.ipynb cell 8")
    assert run_checks(repo) == []
    shown = Notebook.read(repo / CHAPTER).code("defines")[0].source
    assert shown == AREA.replace(
        "y = clip(y)", "y = clip(np.abs(y), 0.1)  # why: a comment that stays"
    )
    lines = (repo / CHAPTER).read_text(encoding="utf-8").splitlines()
    assert [a for a, b in zip(lines, before.splitlines(), strict=True) if a != b] == [
        '    "    y = clip(np.abs(y), 0.1)  # why: a comment that stays\\n",'
    ]


def test_sync_shortens_docstrings_and_keeps_annotations_where_the_cell_had_some(repo):
    cells = sound_chapter()
    cells[7] = code("%%time\ndef clip(x, low=0.1):\n    return x", "defines")
    cells.insert(8, code(AREA, "defines"))
    cells.insert(7, code("LIMIT = 0.3"))
    write_notebook(repo / CHAPTER, cells)
    assert len(sync(repo)) == 1
    assert Notebook.read(repo / CHAPTER).code("defines")[0].source == (
        '%%time\ndef clip(x, low=0.0):\n    """Clip at LIMIT."""\n    return np.clip(x, low, LIMIT)'
    )
    assert run_checks(repo) == []

    cells[8] = code("def clip(x: int):\n    return x", "defines")
    write_notebook(repo / CHAPTER, cells)
    assert len(sync(repo)) == 1
    annotated = Notebook.read(repo / CHAPTER).code("defines")[0].source
    assert annotated.startswith("def clip(x: np.ndarray, low: float = 0.0) -> np.ndarray:\n")


def test_sync_folds_and_opens_cells_for_jupyterlab_and_colab(repo):
    cells = sound_chapter()
    cells[3]["metadata"] = {"tags": ["setup", "fold"]}
    cells[9]["metadata"] |= FOLDED
    cells.insert(5, code("# @title A number\nx = 1", "fold", jupyter={"source_hidden": False}))
    write_notebook(repo / CHAPTER, cells, kernelspec={"display_name": "é"})
    before = (repo / CHAPTER).read_text(encoding="utf-8")
    assert [line.split(": ") for line in sync(repo)] == [
        ["book/02_area.ipynb cell 4", "is folded in JupyterLab and on Colab"],
        ["book/02_area.ipynb cell 6", "is folded in JupyterLab and on Colab"],
        ["book/02_area.ipynb cell 11", "is open in JupyterLab and on Colab"],
    ]
    assert run_checks(repo) == [] and sync(repo) == []
    stored = json.loads((repo / CHAPTER).read_text(encoding="utf-8"))["cells"]
    assert stored[3]["metadata"] == {"tags": ["setup", "fold"], **FOLDED}
    assert list(stored[3]["metadata"]) == ["cellView", "jupyter", "tags"]
    assert stored[10]["metadata"] == {"mystnb": FIGURE}
    after = json.loads(before)
    for number in (3, 5, 10):
        after["cells"][number]["metadata"] = stored[number]["metadata"]
    text_after = json.dumps(after, indent=1, ensure_ascii=False) + "\n"
    assert (repo / CHAPTER).read_text(encoding="utf-8") == text_after


def test_open_code_is_counted_by_its_tags(repo):
    found = open_code(Notebook.read(repo / CHAPTER))
    imports, area, exercises = len(IMPORTS.splitlines()), len(AREA.splitlines()), 3 * 2
    assert found == OpenCode("02_area", imports + area + 2 + 2 + exercises, area, exercises)
    assert found.plumbing == imports + 2 + 2
    cells = sound_chapter()
    cells[4] = code(f"# @title Imports\n{IMPORTS}", "fold", **FOLDED)
    cells[8]["metadata"] = {"tags": ["idea"]}
    write_notebook(repo / CHAPTER, cells)
    found = open_code(Notebook.read(repo / CHAPTER))
    assert found == OpenCode("02_area", area + 2 + 2 + exercises, area + 2, exercises)


def test_the_limits_of_open_code():
    kept = [OpenCode("01_a", 1000, 960, 0), OpenCode("02_b", 2341, 1045, 1256)]
    assert over_limits(kept) == []
    (many,) = over_limits([*kept, OpenCode("03_c", 1, 1, 0)])
    assert many.startswith("3342 lines are open, more than 3341")
    (few,) = over_limits([OpenCode("01_a", 1000, 599, 401)])
    assert few.startswith("59.9% of the open lines are ideas, less than 60%")
    (plumbing,) = over_limits([OpenCode("01_a", 1000, 959, 0), *2 * [OpenCode("x", 41, 0, 0)]])
    assert plumbing.startswith("the median chapter has 41 open lines of plumbing, more than 40")
    table = "\n".join(line_table(kept))
    assert "02_b     2341  1045  1256       40" in table
    assert "open lines: 3341 (at most 3341)" in table and "share of ideas: 60.0%" in table


def test_fork_rewrites_every_address(repo):
    ours = "https://github.com/Some-One/area.book"
    site = "https://fmabs-lite.github.io/fmabs-lite/"
    other = f"{URL}-data and https://github.com/not-fmabs-lite/fmabs-lite"
    (repo / "README.md").write_text(f"{URL}/issues {site} {other}", encoding="utf-8")
    assert fork(repo, ours) == ["README.md", "_config.yml", CHAPTER]
    assert run_checks(repo) == []
    readme = (repo / "README.md").read_text(encoding="utf-8")
    assert readme == f"{ours}/issues https://Some-One.github.io/area.book/ {other}"
    assert "fmabs-lite/fmabs-lite" not in (repo / CHAPTER).read_text(encoding="utf-8")
    assert fork(repo, URL) and fork(repo, URL) == []


@pytest.mark.parametrize("url", ["", "github.com/a/b", "https://github.com/a", URL + ".git"])
def test_fork_refuses_what_is_no_address(repo, url):
    before = {path: path.read_bytes() for path in repo.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="https://github.com/OWNER/NAME"):
        fork(repo, url)
    assert before == {path: path.read_bytes() for path in repo.rglob("*") if path.is_file()}


def test_a_long_list_of_imports_is_no_long_cell(repo):
    names = "".join(f"    f{number},\n" for number in range(41))
    listed = code(f"from fmabs_lite import (\n{names})")
    write_notebook(repo / CHAPTER, [*sound_chapter()[:5], listed, *sound_chapter()[5:]])
    assert run_checks(repo) == []


def test_findings_name_file_and_cell(repo):
    cells = sound_chapter()
    replace("def area", "def surface")(cells)
    write_notebook(repo / CHAPTER, cells)
    assert any(p.startswith("book/02_area.ipynb cell 8: ") for p in run_checks(repo))
    shutil.rmtree(repo / "book" / "records")
    assert run_checks(repo)


@pytest.mark.parametrize(
    "markdown",
    ["$a<b$ and 1 < 2", "<https://doi.org/10.1/1>", "`<script>`", "<!-- note -->", "a<br>b",
     "<details>\n<summary>Solution</summary>\n\nx\n\n</details>", "```\n<b>\n```"],
)  # fmt: skip
def test_what_is_no_html_or_allowed_is_no_finding(markdown):
    assert list(html_problems(markdown)) == []


def test_a_broken_notebook_is_one_finding_not_a_chapter_that_is_not_there(repo):
    (repo / CHAPTER).write_text('{"cells": [', encoding="utf-8")
    found = run_checks(repo)
    assert any("02_area.ipynb: is not a notebook" in line for line in found)
    assert not [line for line in found if "no such chapter" in line]


@pytest.mark.parametrize("folder, complains", [("records", True), ("cells", False)])
def test_a_record_of_cells_is_looked_into(repo, folder, complains):
    """Too few seeds are a fault where a chapter reads the record, and none where cells wait."""
    cell = {"chapter": "02_area", "profile": "cpu", "parameters": {"seeds": [0]}} | MEASURED
    content = {
        "provenance": {"chapter": "02_area", "profile": "cpu"},
        "cells": [{"provenance": cell, "results": {"rows": {"coin": [{"area": 0.1}]}}}],
    }
    content["provenance"]["checksum"] = content_checksum(content)
    path = repo / "book" / folder / "02_area.cpu.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    assert any("fewer than three seeds" in line for line in check_records(repo)) == complains
    path.write_text(path.read_text("utf-8").replace("0.1", "0.2"), encoding="utf-8")
    assert any("was changed after its run" in line for line in check_records(repo))
