"""What a chapter says of its data: whose they are, or that they are synthetic."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fmabs_lite.data.folder import NAMES, DataFolder, listing

CREDITS = {
    "mvtec": "MVTec AD, MVTec Software GmbH, CC BY-NC-SA 4.0",
    "avenue": "CUHK Avenue, Lu et al. 2013, for research",
    "ped2": "UCSD Ped2, Mahadevan et al. 2010",
    "shanghaitech": "ShanghaiTech Campus, Luo et al. 2017",
    "dtd": "DTD, Cimpoi et al. 2014, for research",
}
told: dict[int, list[DataFolder]] = {}  # what each cell has opened, by the number of its run


def show_banner(folder: DataFolder) -> None:
    """Show in a notebook whose data these are; a cell that opens two folders has one banner."""
    if "IPython" not in sys.modules:
        return
    from IPython import get_ipython
    from IPython.display import Markdown, display

    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):  # a terminal shows no Markdown
        return
    cell = shell.execution_count
    opened = told.setdefault(cell, [])
    if folder.root in [other.root for other in opened]:
        return
    opened.append(folder)
    display(Markdown(banner(opened)), display_id=f"data-{cell}", update=len(opened) > 1)


def banner(folders: Sequence[DataFolder]) -> str:
    """The banner of these folders, as Markdown.

    A real folder is shown by its own name alone: a built page may be published.
    """
    real = [folder for folder in folders if not folder.drawn]
    if not real:
        return (
            "> **Synthetic data.** These pictures and videos were drawn by code. They show how "
            "things work; they measure nothing about the real benchmarks. To use real data, set "
            "`data` to a folder that holds MVTec AD, Avenue, UCSD Ped2, ShanghaiTech or DTD."
        )
    parts = [f"**Real data** from the folder `{folder.root.name}`: {'; '.join(credits_of(folder))}."
             for folder in real]  # fmt: skip
    if len(real) < len(folders):
        parts.append("**Synthetic data**, drawn by code, stand in for what is not there.")
    return "> " + " ".join(parts)


def credits_of(folder: DataFolder) -> list[str]:
    """Whom to name for the sets that a folder holds.

    Any pictures may be laid out as MVTec AD is: its publisher is named for its categories alone.
    """
    from fmabs_lite.data.fetch.mvtec import CATEGORIES  # which imports this package's loaders

    found = []
    for key in filter(folder.has, NAMES):
        if key != "mvtec":
            found.append(CREDITS[key])
            continue
        names = {path.name for path in listing(folder.mvtec) if (path / "train").is_dir()}
        found += [CREDITS[key]] * bool(names & set(CATEGORIES))
        found += ["your own pictures"] * bool(names - set(CATEGORIES))
    return found or ["your own pictures"]
