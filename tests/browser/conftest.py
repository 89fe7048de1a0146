"""A headless Chromium that reads what a page of ours found out about the book's pages."""

from __future__ import annotations

import html
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fmabs_lite.press.chromium import BROWSERS, Tab, find_browser


@pytest.fixture(scope="module")
def browser() -> str:
    if not (found := find_browser()):
        pytest.skip(f"no browser found: none of {', '.join(BROWSERS)} is on the PATH")
    return found


@pytest.fixture(scope="module")
def tab(browser: str, tmp_path_factory) -> Iterator[Tab]:
    with Tab(browser, tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(scope="module")
def results_of(browser: str, tmp_path_factory) -> Callable[[str, int], Any]:
    """Open an address for so many seconds of the page's time; read its `<pre id="results">`."""

    def read(address: str, seconds: int) -> Any:
        profile: Path = tmp_path_factory.mktemp("chromium")
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            f"--user-data-dir={profile}",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no other machine
            f"--virtual-time-budget={1000 * seconds}", "--dump-dom", address,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        found = re.search(r'<pre id="results">(.*?)</pre>', done.stdout, flags=re.S)
        assert found, done.stderr[-2000:] + done.stdout[-2000:]
        return json.loads(html.unescape(found[1]))

    return read
