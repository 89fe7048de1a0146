"""What the page's copy of a notebook hides, and behind which title."""

from __future__ import annotations

import json

import pytest

from fmabs_lite.press.folding import page_copy


def copied(*tags: str, source: str = "# @title The table\ntable(rows)") -> dict:
    """A code cell with these tags, as the page has it."""
    cell = {"cell_type": "code", "metadata": {"tags": list(tags)}, "source": source}
    [shown] = json.loads(page_copy(json.dumps({"cells": [cell]})))["cells"]
    return shown


def test_a_folded_cell_hides_its_code_behind_its_title():
    shown = copied("fold")
    assert "hide-input" in shown["metadata"]["tags"]
    assert shown["metadata"]["mystnb"]["code_prompt_show"] == "Show code: The table"
    assert shown["source"] == "table(rows)"


def test_one_that_hides_its_output_hides_whole():
    shown = copied("fold", "hide-output")
    assert "hide-cell" in shown["metadata"]["tags"]
    assert "hide-input" not in shown["metadata"]["tags"]
    assert shown["metadata"]["mystnb"]["code_prompt_show"] == "Show: The table"


@pytest.mark.parametrize("tags", [("idea",), ()])
def test_an_open_cell_stays_as_it_is(tags):
    shown = copied(*tags)
    assert shown["metadata"] == {"tags": list(tags)}
    assert shown["source"].startswith("# @title")
