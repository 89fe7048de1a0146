"""Numbers in text are Python's, wherever they stand."""

from __future__ import annotations

import re

import pytest
import yaml
from tiny_book import ROOT

from fmabs_lite.lesson.values import read_values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("400", 400),
        ("-3", -3),
        ("1_000", 1000),
        ("0x10", 16),
        ("1e-3", 0.001),
        ("1e5", 100000.0),
        (".5", 0.5),
        ("2.", 2.0),
        ("[1e-3,1e-2]", [0.001, 0.01]),
        ("'0400'", "0400"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("no", "no"),
        ("true", True),
        ("~", None),
        ("", None),
        ("10_draem", "10_draem"),
        ("1.2.3", "1.2.3"),
        ("{<<: {a: 1}, b: 2}", {"a": 1, "b": 2}),
    ],
)
def test_plain_text_is_read_as_python_reads_it(text, value):
    found = read_values(text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("text", ["0400", "[010]", "08", "1__0", '!!int "010"', "a: -07"])
def test_a_number_that_python_does_not_read_is_refused(text):
    with pytest.raises(yaml.YAMLError, match="is no number in Python; write it without zeros"):
        read_values(text)


def test_a_key_that_stands_twice_is_refused():
    with pytest.raises(yaml.YAMLError, match="'seeds' stands here twice"):
        read_values("grid: {seeds: [1], steps: [2], seeds: [3]}")


def test_no_other_place_reads_values_from_yaml():
    known = {"lesson/values.py", "press/checks/address.py"}  # the latter jupyter-book's own file
    package = ROOT / "fmabs_lite"
    loads = {path.relative_to(package).as_posix() for path in package.rglob("*.py")
             if re.search(r"yaml\.(safe_)?load\b", path.read_text("utf-8"))}  # fmt: skip
    assert loads == known
