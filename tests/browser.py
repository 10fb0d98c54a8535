"""A headless Chromium over its debugging pipe: open a page, set width and colour scheme, ask it things, take pictures."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find_chromium() -> str | None:
    """Path of a Chromium, from $CHROMIUM or the search path."""
    return os.environ.get("CHROMIUM") or next((found for n in NAMES if (found := shutil.which(n))), None)


class Browser:
    """One page of a Chromium without a screen. Messages are JSON ended by a zero byte, on the file descriptors 3 and 4."""

    def __init__(self, path: str, profile: Path, timeout_s: float = 120.0) -> None:
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        self._timeout, self._rest, self._number, self._session = timeout_s, b"", 0, ""

        def wire() -> None:
            a, b = os.dup(to_read), os.dup(to_write)
            os.dup2(a, 3)
            os.dup2(b, 4)

        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
                 "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        self._process = subprocess.Popen([path, *flags], preexec_fn=wire, close_fds=False, stdin=subprocess.DEVNULL,
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(to_write)
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._send("Page.enable")

    def open(self, url: str, width: int = 1200, *, dark: bool = False, media: str = "", scripts: bool = True) -> None:
        """Load a page in a window of `width` pixels; `media` "print" lays it out as on paper."""
        self._send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._send("Emulation.setEmulatedMedia", media=media, features=scheme)
        self._send("Emulation.setScriptExecutionDisabled", value=not scripts)
        self._send("Page.navigate", url=url)
        end = time.monotonic() + self._timeout
        while self.ask("document.readyState + ' ' + location.href") != f"complete {url}":
            if time.monotonic() > end:
                raise TimeoutError(url)
            time.sleep(0.05)

    def ask(self, script: str) -> Any:
        """Value of a JavaScript expression, JSON ready."""
        answer = self._send("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def picture(self, path: Path, *, clip: tuple[float, float, float, float] | None = None, scale: float = 1) -> None:
        """The whole page, or (x, y, width, height) of it, as a PNG."""
        x, y, w, h = clip or (0, 0, self.ask("innerWidth"), self.ask("document.documentElement.scrollHeight"))
        area = {"x": x, "y": y, "width": w, "height": h, "scale": scale}
        taken = self._send("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=area)
        path.write_bytes(base64.b64decode(taken["data"]))

    def pdf(self) -> bytes:
        return base64.b64decode(self._send("Page.printToPDF", printBackground=True, paperWidth=8.27, paperHeight=11.69)["data"])

    def close(self) -> None:
        self._session = ""
        try:
            self._send("Browser.close")
        except (OSError, TimeoutError):
            pass
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def _send(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _read(self) -> dict[str, Any]:
        end = time.monotonic() + self._timeout
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError("Chromium did not answer")
            data = os.read(self._from, 1 << 16)
            if not data:
                raise OSError("Chromium ended")
            self._rest += data
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)
