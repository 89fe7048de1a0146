"""Folded code cells: one tag and one line in the notebook, folded wherever it is opened.

A code cell tagged `fold` begins with `# @title What it does`. Any editor shows that line as a
comment. JupyterLab and Colab fold the cell by metadata, which `fmabs-lite sync` writes, and the
page by a tag of myst-nb, which only the page's copy of the notebook has. A folded cell that is also
tagged `hide-output` hides whole on the page: a table for those who look for more.
"""

from __future__ import annotations

import copy
import json
import re
from typing import Any

FOLD = "fold"
HIDE_OUTPUT = "hide-output"  # of a folded cell: on the page its output hides with it
OF_EDITORS = {
    "cellView": "form",  # Colab shows the title alone, as a form
    "jupyter": {"source_hidden": True},  # JupyterLab shows the first line and three dots
}


def title_of(source: str) -> str:
    """What a cell's first line, `# @title …`, says that it does; empty without such a line."""
    found = re.match(r"# @title[ \t]+(\S.*)", source)
    return found[1].rstrip() if found else ""


def for_editors(metadata: dict[str, Any]) -> dict[str, Any]:
    """A stored cell's metadata as its tags want them: folded in JupyterLab and Colab, or open.

    The keys are sorted, as JupyterLab stores them.
    """
    kept = {key: value for key, value in metadata.items() if key not in OF_EDITORS}
    folded = OF_EDITORS if FOLD in metadata.get("tags", []) else {}
    return dict(sorted({**kept, **copy.deepcopy(folded)}.items()))


def page_copy(notebook: str) -> str:
    """A notebook as the page shows it (both JSON): its folded cells hide behind their titles."""
    raw = json.loads(notebook)
    raw["cells"] = [_for_page(cell) for cell in raw["cells"]]
    return json.dumps(raw, indent=1, ensure_ascii=False) + "\n"


def _for_page(cell: dict[str, Any]) -> dict[str, Any]:
    metadata, source = cell["metadata"], "".join(cell["source"])
    title = title_of(source)
    if FOLD not in metadata.get("tags", []) or not title:
        return cell
    whole = HIDE_OUTPUT in metadata["tags"]
    what = "" if whole else " code"
    prompts = {"code_prompt_show": f"Show{what}: {title}",
               "code_prompt_hide": f"Hide{what}: {title}"}  # fmt: skip
    folded = {
        "tags": [*metadata["tags"], "hide-cell" if whole else "hide-input"],
        "mystnb": {**metadata.get("mystnb", {}), **prompts},
    }
    code = source.partition("\n")[2]  # the line that opens the cell has the title
    return {**cell, "source": code, "metadata": {**metadata, **folded}}
