"""A tab of a headless Chromium that is told what to do over its DevTools pipe."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from threading import Timer
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
LONGEST = 600  # seconds that a tab may live, so that nothing waits for ever


class BrowserError(ValueError):
    """A page did not do what it was told: the message holds what the browser said."""


def find_browser() -> str | None:
    """The path of a Chromium or Chrome on this machine."""
    return next(filter(None, map(shutil.which, (*BROWSERS, MAC))), None)


class Tab:
    """One tab with a browser of its own; use it in a `with`, so that it ends with the block.

    Args:
        browser: the path of a Chromium.
        profile: an empty folder for it to write to.
    """

    def __init__(self, browser: str, profile: Path) -> None:
        options = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--allow-file-access-from-files",  # a page may look into its frames
            f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND",
            "--remote-debugging-pipe",
        ]  # fmt: skip
        # Chromium listens on file 3 and answers on file 4.
        pipes = 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null'
        self.process = subprocess.Popen(
            ["sh", "-c", pipes, browser, *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.patience = Timer(LONGEST, self.process.kill)
        self.patience.start()
        self.sent, self.unread, self.session = 0, b"", {}
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        session = self.tell("Target.attachToTarget", targetId=target, flatten=True)
        self.session = {"sessionId": session["sessionId"]}

    def __enter__(self) -> Tab:
        return self

    def __exit__(self, *_: Any) -> None:
        self.patience.cancel()
        self.process.kill()
        self.process.wait()

    def tell(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command; return its result, nothing if the page changed under it."""
        self.sent += 1
        command = {"id": self.sent, "method": method, "params": params, **self.session}
        self.process.stdin.write(json.dumps(command).encode() + b"\0")
        self.process.stdin.flush()
        while True:
            while b"\0" not in self.unread:
                if not (read := self.process.stdout.read1(1 << 20)):
                    raise BrowserError("the browser ended")
                self.unread += read
            message, self.unread = self.unread.split(b"\0", 1)
            if (answer := json.loads(message)).get("id") == self.sent:
                return answer.get("result", {})

    def run(self, script: str) -> Any:
        """What a line of JavaScript gives on the page."""
        told = self.tell("Runtime.evaluate", expression=script,
                         awaitPromise=True, returnByValue=True)  # fmt: skip
        if "exceptionDetails" in told:
            raise BrowserError(json.dumps(told["exceptionDetails"]))
        return told.get("result", {}).get("value")

    def resize(self, width: int, height: int = 844) -> None:
        """Make the window so large; below 1000 pixels it is a phone's or a tablet's."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1}
        self.tell("Emulation.setDeviceMetricsOverride", mobile=width < 1000, **size)

    def open(self, address: str, width: int = 1280, height: int = 844) -> None:
        """Show a page in a window of this size, with all that belongs to it."""
        self.resize(width, height)
        self.tell("Page.navigate", url=address)
        if not self.arrives(address):
            raise BrowserError(f"{address} does not load")

    def arrives(self, address: str) -> bool:
        """Whether the tab soon shows an address, with all that belongs to the page."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if self.run("location.href + ' ' + document.readyState") == f"{address} complete":
                return True
            time.sleep(0.05)
        return False
