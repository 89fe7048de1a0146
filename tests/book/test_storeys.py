"""The package has storeys, and each looks only down: method, models, data, lesson, press."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "fmabs_lite"
FOLDERS = ("data", "models", "lesson", "press")
MAY_IMPORT = {
    "data": {"data"},
    "method": {"method", "data"},
    "models": {"method", "data", "models"},
    "lesson": {"method", "data", "models", "lesson"},
}  # press may import all
METHOD = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")
OF_THE_PRESS = r"^\s*(?:from|import)\s+fmabs_lite(?:\.press\b|\s+import\b.*\bpress\b)"


def storey(module: str) -> str:
    """The storey of a module of the package; "" for the package itself."""
    part = (module.split(".") + [""])[1]
    return part if part in FOLDERS or not part else "method"


def imported(source: str, module: str, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Line and name of each module of ours that `module` imports, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            around = module.split(".")[: -node.level + is_package or None] if node.level else []
            base = ".".join([*around, *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names]  # a module, or in one
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "fmabs_lite")


def violations(path: Path) -> list[str]:
    parts = path.relative_to(ROOT).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    module = ".".join(parts[:-1] if is_package else parts)
    allowed = MAY_IMPORT.get(storey(module))
    if allowed is None:
        return []
    found = imported(path.read_text("utf-8"), module, is_package)
    return [f"{'/'.join(parts)}.py, line {line}: {name}" for line, name in found
            if storey(name) not in allowed]  # fmt: skip


def test_no_module_imports_from_a_storey_above():
    files = sorted(PACKAGE.rglob("*.py"))
    assert {storey(f"fmabs_lite.{path.parent.name}") for path in files} >= set(FOLDERS)
    assert [line for path in files for line in violations(path)] == []


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("import fmabs_lite.press.cli as cli", ["fmabs_lite.press.cli"]),
        ("from fmabs_lite import press", ["fmabs_lite.press"]),
        ("from fmabs_lite.lesson.records import keep", ["fmabs_lite.lesson.records.keep"]),
        ("from ..press import cli", ["fmabs_lite.press.cli"]),
        ("from .drawn import minis", ["fmabs_lite.data.drawn.minis"]),
        ("import torch.nn", []),
    ],
)
def test_an_import_is_seen_wherever_it_stands(line, names):
    source = f"def later():\n    {line}\n"
    assert [name for _, name in imported(source, "fmabs_lite.data.folder")] == names
    inside = [name for _, name in imported(source, "fmabs_lite.data", is_package=True)]
    assert inside == names


def test_storeys_are_told_apart():
    names = ["fmabs_lite.training.fit", "fmabs_lite.data", "fmabs_lite.press.cli.main"]
    assert [storey(name) for name in names] == ["method", "data", "press"]


def test_no_notebook_imports_the_press():
    """In its code, and in the solutions that its text holds."""
    assert re.search(OF_THE_PRESS, "from fmabs_lite.press.plan import toc")
    assert re.search(OF_THE_PRESS, "  from fmabs_lite import data, press")
    notebooks = sorted((ROOT / "book").glob("*.ipynb"))
    assert notebooks
    for path in notebooks:
        for number, cell in enumerate(json.loads(path.read_text("utf-8"))["cells"]):
            found = re.search(OF_THE_PRESS, "".join(cell["source"]), re.MULTILINE)
            assert not found, f"{path.name}, cell {number}: {found[0]}"


def loaded(*modules: str) -> set[str]:
    """The libraries that a fresh Python has loaded after importing these modules."""
    code = f"import sys, {', '.join(modules)}; dir(fmabs_lite); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.split()}


HEAVY = {"papermill", "click", "requests", "matplotlib", "seaborn", "sklearn", "torchvision"}


def test_importing_the_package_alone_loads_no_library():
    found = loaded("fmabs_lite")
    assert "fmabs_lite" in found and not found & (HEAVY | {"torch", "numpy"})


def test_importing_the_method_loads_nothing_of_the_book():
    assert {"attention", "mimicry", "training"} <= set(METHOD)
    found = loaded(*(f"fmabs_lite.{name}" for name in [*METHOD, "data", "lesson.records"]))
    assert "torch" in found and not found & HEAVY


def test_importing_the_systems_loads_no_library_of_networks():
    """torchvision and timm take torch's compiler along: a second and more, if nobody asks."""
    names = [f"fmabs_lite.models.{path.stem}" for path in (ROOT / "fmabs_lite/models").glob("*.py")]
    assert "fmabs_lite.models.backbones" in names
    found = loaded("fmabs_lite", *(name for name in names if not name.endswith("__init__")))
    assert "torch" in found and not found & {"torchvision", "timm"}
