"""Chromium without a window, driven by its own protocol over two pipes."""

from __future__ import annotations

import base64
import json
import os
import select
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
EXECUTABLE = next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--remote-debugging-pipe", "about:blank"),
)
NAMED_KEYS = {"Enter": (13, "\r"), "Escape": (27, "")}
SECONDS = 30


class Page:
    """One tab."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.browser = browser
        target = browser.ask("Target.createTarget", {"url": url})["targetId"]
        attached = browser.ask("Target.attachToTarget", {"targetId": target, "flatten": True})
        self.session: str = attached["sessionId"]
        self.until("location.href !== 'about:blank' && document.readyState === 'complete'")

    def ask(self, method: str, **params: Any) -> Any:
        """One command of the protocol, and its result."""
        return self.browser.ask(method, params, self.session)

    def value(self, script: str) -> Any:
        """What an expression of JavaScript gives."""
        options = {"expression": script, "returnByValue": True, "awaitPromise": True}
        reply = self.ask("Runtime.evaluate", **options)
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until an expression is true, but not forever."""
        end = time.monotonic() + SECONDS
        while not self.value(script):
            assert time.monotonic() < end, (script, self.value("document.body.innerText"))
            time.sleep(0.01)

    def press(self, key: str, code: str = "") -> None:
        """A key, down and up, as from a keyboard; `code` is its place there."""
        number, text = NAMED_KEYS.get(key) or (ord(key.upper()), key)
        what = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        self.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **what)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **what)

    def shoot(self, out: Path, width: int, height: int, dark: bool = False) -> None:
        """A picture of the tab."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        out.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))


class Browser:
    """One process, which answers on a pipe."""

    def __init__(self, to: int, back: int) -> None:
        self.to, self.back = to, back
        self.rest = b""
        self.number = 0

    def ask(self, method: str, params: dict[str, Any], session: str | None = None) -> Any:
        """Send one command, and wait for its answer; what else is told meanwhile is dropped."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + SECONDS
        while True:
            *whole, self.rest = self.rest.split(b"\0")
            for reply in map(json.loads, whole):
                if reply.get("id") == self.number:
                    assert "error" not in reply, reply
                    return reply["result"]
            assert select.select([self.back], [], [], end - time.monotonic())[0], method
            self.rest += os.read(self.back, 1 << 20)

    def open(self, url: str) -> Page:
        """A tab with a page."""
        return Page(self, url)


@contextmanager
def running_browser(home: Path) -> Iterator[Browser]:
    """Chromium with a profile of its own; it ends with the context."""
    assert EXECUTABLE is not None
    reads, to = os.pipe()
    back, writes = os.pipe()
    command = shlex.join([EXECUTABLE, f"--user-data-dir={home}/profile", *FLAGS])
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command} 3<&{reads} 4>&{writes}"],
        pass_fds=(reads, writes),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(reads)
    os.close(writes)
    try:
        yield Browser(to, back)
    finally:
        process.kill()
        process.wait()
        os.close(to)
        os.close(back)
