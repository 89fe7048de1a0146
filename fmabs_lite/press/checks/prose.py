"""Checks of the text: portable Markdown, links, typed results, words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fmabs_lite.press.checks.notebook import Notebook, prose, without_code, without_math

# What only Sphinx or only GitHub understands: (pattern, its name, what to write instead).
NOT_PORTABLE = [
    (r"\{[a-zA-Z][\w:.+-]*\}`", "a role", "write plain Markdown or a plain link"),
    (r"^[ \t>]*(?:`{3,}|~{3,})[ \t]*\{", "a directive", "write plain Markdown"),
    (r"^[ \t>]*:{3,}", "a `:::` block", "write a paragraph or a quotation"),
    (r"^[ \t]*>[ \t]*\[!\w+\]", "an alert of GitHub's", "write a plain quotation"),
    (r"^[ \t]*!!![ \t]", "an admonition", "write a plain quotation"),
    (r"^\([\w:.-]+\)=[ \t]*$", "a label", "link to the file and its heading"),
    (r"^\+\+\+", "a block break", "start a new cell"),
    (r"\[\^[^\]]+\]", "a footnote", "say it in the text, or link"),
]
COLUMN = 76  # characters that a page's column holds, as in book/ruff.toml
TAGS = {"details", "summary", "br"}  # of HTML, without attributes; more could hold a script
BLOCK = r"^[ \t>]*(`{3,}|~{3,})(?![ \t]*\{).*?(^[ \t>]*\1[ \t]*$|\Z)"
LINK = r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?[^)]*\)"


def check_portable(notebook: Notebook) -> list[str]:
    """A notebook's Markdown reads the same on GitHub, Colab, JupyterLab and in the book."""
    return [
        notebook.problem(cell, text)
        for cell in notebook.markdown()
        for text in (*_raw_text(cell.source), *_math_problems(without_code(cell.source)))
    ]


def _raw_text(markdown: str) -> Iterator[str]:
    text = re.sub(BLOCK, "", markdown, flags=re.S | re.M)
    for pattern, what, instead in NOT_PORTABLE:
        if match := re.search(pattern, text, flags=re.M):
            yield f"{what} (`{match[0].strip()}`) shows as raw text outside the book; {instead}"


def _math_problems(text: str) -> list[str]:
    if text.count("$$") % 2:
        return ["a `$$` block is not closed, so all that follows is set as mathematics; close it"]
    problems = []
    for block in re.findall(r"\$\$(.*?)\$\$", text, flags=re.S):
        if re.search(r"\n[ \t]*\n", block):
            problems.append("a blank line inside `$$` ends the equation on GitHub; remove it")
    if re.search(r"\\begin\{", re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$", "", text, flags=re.S)):
        problems.append("`\\begin{` outside `$$` is raw text on GitHub; put it between `$$`")
    return problems


def check_blocks(notebook: Notebook) -> list[str]:
    """A line of code in the text, a solution's for example, fits the column of the page."""
    return [
        notebook.problem(cell, f"`{line.strip()}` has {len(line)} characters; break it at {COLUMN}")
        for cell in notebook.markdown()
        for block in re.finditer(BLOCK, cell.source, flags=re.S | re.M)
        for line in block[0].splitlines()
        if len(line) > COLUMN
    ]


def check_html(notebook: Notebook) -> list[str]:
    """What a reader sees holds no HTML but `TAGS`: a page would run what stands in it."""
    return [
        notebook.problem(cell, text)
        for cell, prose_text in prose(notebook)
        for text in html_problems(prose_text)
    ]


def html_problems(markdown: str) -> Iterator[str]:
    text = without_math(without_code(markdown))
    for tag, name, attributes in re.findall(r"(</?([a-zA-Z!?][\w:-]*)([^<>]*)>?)", text):
        if name.lower() not in TAGS or attributes.strip(" /\n"):
            allowed = ", ".join(sorted(TAGS))
            yield f"`{tag}` is HTML; write Markdown (allowed: {allowed}, without attributes)"


def check_links(notebook: Notebook, repository: str) -> list[str]:
    """Local links lead to files that exist; other chapters are linked by relative path."""
    problems: list[str] = []
    for cell in notebook.markdown():
        is_badge_row = "colab.research.google.com" in cell.source
        for text in link_problems(cell.source, notebook.path, "" if is_badge_row else repository):
            problems.append(notebook.problem(cell, text))
    return problems


def link_problems(markdown: str, path: Path, repository: str) -> Iterator[str]:
    for target in re.findall(LINK, _without_fences(markdown)):
        if scheme := re.match(r"([a-zA-Z][a-zA-Z+.-]*):", target):
            if scheme[1].lower() not in ("http", "https", "mailto"):
                yield f"the link {target} is no address of a page; link to one by https"
            if repository and re.match(rf"{re.escape(repository)}/blob/\w+/book/", target):
                yield f"the link {target} leaves the reader's copy; link relative to this file"
        elif target.startswith("/"):
            yield f"the link {target} starts at a root no reader has; link relative to this file"
        elif (name := target.partition("#")[0]) and not (path.parent / name).exists():
            yield f"the link {target} leads to no file; correct it or add the file"


def _without_fences(markdown: str) -> str:
    text = re.sub(BLOCK, "", markdown, flags=re.S | re.M)
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", text)


MEASURED = r"\b(?:AUROC|AUC|AP|PRO|points?|faster)\b"
NUMBER = r"(?<![\w.])(?:\d+(?:\.\d+)?[ \u00a0\u202f]?(?:%|per ?cent\b)|\d+\.\d+)"
# Numbers that are no results: a setting, PRO's limit, identifiers, the ends of a scale.
SETTING = r"(?:\\?[a-zA-Z_]+|[α-ωΑ-Ω])\s*(?:=|\\leq?|\\geq?|≤|≥|<|>)\s*\d+(?:\.\d+)?"
LIMIT = rf"{NUMBER}\s*(?:FPR|false[- ]positive)|false[- ]positive rate (?:of|to|up to) {NUMBER}"
IDENTIFIER = r"\b10\.\d{4,}/\S+|arXiv:\S+|\beq\. \d\S*"
SCALE_ENDS = r"(?<![\w.])(?:0\.0|0\.5|1\.0|0 ?%|50 ?%|100 ?%)(?!\.?\d)"
ABBREVIATION = r"\b(?:e\.g|i\.e|eq|Eq|Fig|fig|ch|vs|cf|No|approx|pp?)\.$"


def check_typed_results(notebook: Notebook, tables: dict[str, Any]) -> list[str]:
    """No result is typed: cells compute them, or the sentence cites a table of a paper."""
    return [
        notebook.problem(cell, text)
        for cell, prose_text in prose(notebook)
        for text in typed_results(prose_text, tables)
    ]


def typed_results(markdown: str, tables: dict[str, Any]) -> Iterator[str]:
    for sentence in sentences(without_code(markdown)):
        if not re.search(MEASURED, sentence):
            continue
        rest = sentence
        for harmless in (LIMIT, IDENTIFIER, SETTING):
            rest = re.sub(harmless, " ", rest)
        if not re.search(r"\b(?:points?|faster)\b", sentence):
            rest = re.sub(SCALE_ENDS, " ", rest)
        numbers = re.findall(NUMBER, rest)
        printed = _printed_numbers(sentence, tables)
        strange = [n for n in numbers if printed is None or _value(n) not in printed]
        if strange and printed is None:
            yield (
                f"{', '.join(strange)} in “{_short(sentence)}” is a typed result; let a cell say "
                "it, or cite “Table N” of FMABS or AST-MFR"
            )
        elif strange:
            yield (
                f"{', '.join(strange)} in “{_short(sentence)}” stands in no cell of the table "
                "cited (book/paper_tables.yml); correct the number or the table"
            )


def sentences(text: str) -> Iterator[str]:
    """Sentences of each paragraph and list item; a table is one sentence."""
    for paragraph in re.split(r"\n[ \t]*\n|\n(?=[ \t]*(?:[-*+]|\d+\.) )|\n(?=#)", text):
        if re.search(r"^[ \t]*\|", paragraph, flags=re.M):
            yield paragraph
            continue
        start = 0
        for end in re.finditer(r"[.?!:;][)*_”\"]*(?=\s)", paragraph):
            if not re.search(ABBREVIATION, paragraph[: end.end()]) and end[0][0] in ".?!":
                yield paragraph[start : end.end()]
                start = end.end()
        yield paragraph[start:]


def _printed_numbers(sentence: str, tables: dict[str, Any]) -> set[float] | None:
    """All numbers in the paper tables a sentence cites; None when it cites none."""
    papers = [paper for paper in ("FMABS", "AST-MFR") if paper in sentence]
    cited = re.findall(r"\bTables?\s+(\d+(?:(?:,| and|–|-|, and)\s*\d+)*)", sentence)
    if not papers or not cited:
        return None
    numbers = re.findall(r"\d+", " ".join(cited))
    keys = {_key(paper + number) for paper in papers for number in numbers}
    found: set[float] = set()
    for name, content in tables.items():
        if _key(name) in keys:
            cells = [str(cell) for row in content["rows"] for cell in row]
            found |= {float(n) for cell in cells for n in re.findall(r"\d+(?:\.\d+)?", cell)}
    return found


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _value(number: str) -> float:
    return float(re.match(r"\d+(?:\.\d+)?", number)[0])


def _short(sentence: str) -> str:
    words = " ".join(sentence.split())
    return words if len(words) <= 90 else words[:87] + "…"


BANNED = r"\b(?:simply|obviously)\b"


def check_words(notebook: Notebook) -> list[str]:
    """No words that talk down to a reader, and no shouting."""
    return [
        notebook.problem(cell, text)
        for cell, prose_text in prose(notebook)
        for text in word_problems(prose_text)
    ]


def word_problems(markdown: str) -> Iterator[str]:
    text = without_math(without_code(markdown))
    for word in re.findall(BANNED, text, flags=re.I):
        yield f"“{word}” tells a reader who is stuck that he should not be; leave it out"
    if match := re.search(r"[^\s]*!(?![\[=])", text):
        yield f"an exclamation mark in prose (“{match[0]}”); end with a full stop"


def page_problems(path: Path, repo: Path, repository: str, tables: dict[str, Any]) -> list[str]:
    """The same checks for a plain Markdown page, such as README.md or book/glossary.md."""
    text = path.read_text(encoding="utf-8")
    found = [*typed_results(text, tables), *word_problems(text), *html_problems(text)]
    found += link_problems(text, path, repository if path.parent.name == "book" else "")
    return [f"{path.relative_to(repo)}: {problem}" for problem in found]
