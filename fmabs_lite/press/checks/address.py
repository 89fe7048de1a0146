"""The address of the repository: it is set in `_config.yml`, and a fork rewrites it everywhere."""

from __future__ import annotations

import re
from pathlib import Path

REWRITTEN = (
    "_config.yml", "README.md", "CITATION.cff", "CONTRIBUTING.md", "pyproject.toml",
    "environment.yml", "book/*.md", "book/*.ipynb", ".github/**/*.*", "data_scripts/*.py",
)  # fmt: skip


def repository_url(repo: Path) -> str:
    """The address in `_config.yml`. Raises ValueError if it is none of a GitHub repository."""
    import yaml

    path = repo / "_config.yml"
    url = yaml.safe_load(path.read_text(encoding="utf-8")).get("repository", {}).get("url", "")
    return _checked(url, f"repository.url in {path}")


def _checked(url: str, place: str) -> str:
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", url) or url.endswith(".git"):
        raise ValueError(f"{place} is {url!r}; write https://github.com/OWNER/NAME")
    return url


def badges(repository: str, name: str) -> str:
    """The badge row of the chapter in the file `name`."""
    page = f"{repository.removeprefix('https://github.com/')}/blob/main/book/{name}"
    return (
        "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        f"(https://colab.research.google.com/github/{page}) [Source](https://github.com/{page})"
    )


def setup_source(repository: str, extra: str = "") -> str:
    """The set-up cell that opens every chapter, or one that needs an extra of the package."""
    # On a line of its own: pip takes the package that is there, and adds what the extra lists.
    more = f'\n    %pip install -q "fmabs-lite[{extra}]"' if extra else ""
    return (
        "# @title Set-up\n"
        "try:\n"
        "    import fmabs_lite\n"
        "except ModuleNotFoundError:  # on Colab, or where it is not installed yet\n"
        f"    %pip install -q git+{repository}{more}"
    )


def fork(repo: Path, url: str) -> list[str]:
    """Point every badge, install cell and link at a fork; returns the files rewritten.

    Args:
        repo: the checkout.
        url: the fork's address, as https://github.com/OWNER/NAME.

    Raises ValueError if either address is none of a GitHub repository.
    """
    old, new = (_slug(address) for address in (repository_url(repo), _checked(url, "the address")))
    site_old, site_new = (f"{owner}.github.io/{name}" for owner, name in (old, new))
    slug_old, slug_new = ("/".join(slug) for slug in (old, new))
    changed = []
    for path in sorted({path for pattern in REWRITTEN for path in repo.glob(pattern)}):
        text = before = path.read_text(encoding="utf-8")
        for a, b in ((slug_old, slug_new), (site_old, site_new)):
            text = re.sub(rf"(?<![\w.-]){re.escape(a)}(?![\w-])", b, text)
        if text != before:
            path.write_text(text, encoding="utf-8")
            changed.append(path.relative_to(repo).as_posix())
    return changed


def _slug(url: str) -> tuple[str, str]:
    owner, name = url.removeprefix("https://github.com/").split("/")
    return owner, name
