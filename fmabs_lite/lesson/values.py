"""Values in text, of the command line, profiles and sweeps: numbers mean what they mean in Python.

YAML 1.1, as PyYAML reads it, takes 0400 for 256, 1:30 for 90, 1e-3 for a text and `no` for False.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import yaml

TAG = "tag:yaml.org,2002:"
PLAIN = {  # what is no text, though it stands without quotes; and the characters it begins with
    "null": (r"~|null|Null|NULL|None|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?(\d[\d_]*|0[xXoObB][\da-fA-F_]+)", list("-+0123456789")),
    "float": (
        r"[-+]?((\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?|\.inf|\.nan)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}
_Fastest = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # C, where it was built


class Loader(_Fastest):
    """Reads YAML whose numbers are Python's, and refuses a key that stands twice."""

    yaml_implicit_resolvers: dict[str, list] = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        names = Counter(key.value for key, _ in node.value if isinstance(key.value, str))
        if twice := [name for name, many in names.items() if many > 1]:
            raise _refused(f"{twice[0]!r} stands here twice; leave one out", node)
        return super().construct_mapping(node, deep)


def _refused(problem: str, node: Any) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _number(loader: Loader, node: Any) -> int | float:
    text = node.value
    try:
        if node.tag == f"{TAG}int":
            return int(text, 0)
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        raise _refused(
            f"{text} is no number in Python; write it without zeros in front, or in quotes if it "
            "is a text", node,
        ) from None  # fmt: skip


for _name, (_pattern, _first) in PLAIN.items():
    Loader.add_implicit_resolver(TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _first)
Loader.add_constructor(f"{TAG}int", _number)
Loader.add_constructor(f"{TAG}float", _number)


def read_values(text: str) -> Any:
    """Read YAML: numbers as Python writes them; true, false, null; anything else is a text.

    Raises yaml.YAMLError for what is no YAML, a number that Python would not read (0400), and a
    key that stands twice in a mapping.
    """
    return yaml.load(text, Loader)
