"""A page in a real browser, through chromedriver's own protocol: enough to click, run scripts and take pictures."""

from __future__ import annotations

import base64
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
)


class Browser:
    """One headless Chromium; a context manager.

    Args:
        width, height: of its window.
    """

    def __init__(self, *, width: int = 1440, height: int = 900) -> None:
        self._profile = tempfile.mkdtemp(prefix="labelprop-browser-")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        driver = shutil.which("chromedriver")
        if driver is None:
            raise RuntimeError("There is no chromedriver: install Debian's packages `chromium` and `chromium-driver`.")
        self._process = subprocess.Popen([driver, f"--port={port}", "--silent"], stdout=subprocess.DEVNULL)
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120.0, trust_env=False)
        flags = [*_FLAGS, f"--window-size={width},{height}", f"--user-data-dir={self._profile}"]
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": flags}}}}
        for _ in range(100):
            try:
                self._session = self._http.post("/session", json=wanted).json()["value"]["sessionId"]
                return
            except httpx.TransportError:
                time.sleep(0.1)
        raise RuntimeError("chromedriver does not answer")

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._http.delete(f"/session/{self._session}")
        finally:
            self._process.terminate()
            self._process.wait()
            self._http.close()
            shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, url: str) -> None:
        """Goes to an address."""
        self._call("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """Runs a script in the page; `arguments[0]` and so on are its arguments."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script: str, *arguments: Any, seconds: float = 60.0) -> Any:
        """What a script gives, as soon as that is something."""
        deadline = time.monotonic() + seconds
        while not (found := self.run(script, *arguments)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited in vain for: {script[:200]}")
            time.sleep(0.25)
        return found

    def click(self, css: str, *, containing: str | None = None, seconds: float = 30.0) -> None:
        """Clicks on the first element of that selector (and with that text) as a person would."""
        script = (
            "return [...document.querySelectorAll(arguments[0])]"
            ".find(e => e.offsetParent !== null && (!arguments[1] || e.textContent.includes(arguments[1]))) || null"
        )
        element = self.wait(script, css, containing, seconds=seconds)
        self._call("POST", f"/element/{next(iter(element.values()))}/click", {})

    def type(self, css: str, text: str) -> None:
        """Types into the first element of that selector."""
        element = self.wait("return document.querySelector(arguments[0])", css)
        self._call("POST", f"/element/{next(iter(element.values()))}/value", {"text": text})

    def picture(self, path: Path) -> None:
        """Writes what the window shows as a PNG."""
        path.write_bytes(base64.b64decode(self._call("GET", "/screenshot")))

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._http.request(method, f"/session/{self._session}{path}", json=body).json()
        if isinstance(answer.get("value"), dict) and "error" in answer["value"]:
            raise RuntimeError(f"{answer['value']['error']}: {answer['value'].get('message', '')[:500]}")
        return answer["value"]
