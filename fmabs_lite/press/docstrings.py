"""A Sphinx extension for the page of the package: docstrings are plain text, and |x| is no link."""

from __future__ import annotations

from typing import Any


def escape(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Write bars as they stand: reStructuredText takes what is between two for a substitution."""
    lines[:] = [line.replace("|", r"\|") for line in lines]


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx, which finds this module by its name in `_config.yml`."""
    app.connect("autodoc-process-docstring", escape, priority=900)  # behind napoleon
    return {"parallel_read_safe": True}
