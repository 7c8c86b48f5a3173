"""A real browser for the tests: Debian's chromium, headless, spoken to over a pipe (the DevTools protocol).

No driver and no package: the protocol is JSON messages that end in a zero byte, on the file descriptors 3 and 4 that
`--remote-debugging-pipe` reads and writes.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-dev-shm-usage", "--mute-audio",
    "--autoplay-policy=no-user-gesture-required", "--hide-scrollbars", "--force-color-profile=srgb",
    "--remote-debugging-pipe", "about:blank",
)  # fmt: skip


NO_BROWSER = "no chromium, chromium-browser or google-chrome on PATH: the page isn't looked at in a browser"


def find_browser() -> str | None:
    """Where a chromium is, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """One page of a headless browser, and everything it said."""

    def __init__(self, process: subprocess.Popen[bytes], to: int, back: int) -> None:
        self.process, self.to, self.back = process, to, back
        self.events: list[dict[str, Any]] = []
        self.rest = b""
        self.number = 0
        self.session: str | None = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give a command and wait for its answer; events that come meanwhile are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read(60.0)
            if answer.get("id") == self.number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            self.events.append(answer)

    def wait(self, event: str, timeout_s: float = 60.0) -> None:
        """Wait until an event has come."""
        while not any(seen.get("method") == event for seen in self.events):
            self.events.append(self._read(timeout_s))

    def open(self, path: Path) -> None:
        """Load a file and wait until it is loaded; what an earlier page said is forgotten."""
        self.events.clear()
        self.send("Page.navigate", url=path.absolute().as_uri())
        self.wait("Page.loadEventFired")

    def size(self, width: int, height: int) -> None:
        """Set the window's size in CSS pixels."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, scheme: str) -> None:
        """Let the system prefer `light` or `dark`."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; promises are waited for."""
        answer = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key as a person does: Tab, Enter, ArrowRight, …"""
        text = {"Enter": "\r", " ": " "}.get(key)
        code = {"Tab": 9, "Enter": 13, "ArrowRight": 39, "ArrowLeft": 37, "Home": 36, "End": 35, " ": 32}[key]
        name = "Space" if key == " " else key
        common = {"key": key, "code": name, "windowsVirtualKeyCode": code, "modifiers": 8 * shift}
        self.send("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def picture(self, selector: str | None = None, kind: str = "png") -> bytes:
        """A picture of the window, or of the first element that a selector finds."""
        options: dict[str, Any] = {"format": kind}
        if selector:
            box = "(r => ({x: r.x + scrollX, y: r.y + scrollY, width: r.width, height: r.height}))"
            clip = self.run(f"{box}(document.querySelector({json.dumps(selector)}).getBoundingClientRect())")
            options |= {"clip": clip | {"scale": 1}, "captureBeyondViewport": True}
        return base64.b64decode(self.send("Page.captureScreenshot", **options)["data"])

    def complaints(self) -> list[str]:
        """Errors and warnings so far: of scripts, the console, the security policy."""
        bad = ("error", "warning", "assert")
        said = []
        for event in self.events:
            method, parameters = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                said.append(str(parameters["exceptionDetails"]))
            elif method == "Runtime.consoleAPICalled" and parameters["type"] in bad:
                said.append(str(parameters["args"]))
            elif method == "Log.entryAdded" and parameters["entry"]["level"] in bad:
                said.append(parameters["entry"]["text"])
        return said

    def requests(self) -> list[str]:
        """Every address that was asked for so far."""
        return [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]

    def _read(self, timeout_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.back], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"the browser said nothing for {timeout_s} s"
            chunk = os.read(self.back, 1 << 20)
            assert chunk, "the browser ended"
            self.rest += chunk
        message, _, self.rest = self.rest.partition(b"\0")
        return dict(json.loads(message))


@contextmanager
def start_browser(program: str, folder: Path) -> Iterator[Browser]:
    """A browser with an empty profile in `folder`; it ends with the block."""
    to_read, to_write = os.pipe()
    back_read, back_write = os.pipe()
    # the shell moves the pipes' ends to 3 and 4, where the browser wants them, whatever their numbers are here
    command = [program, f"--user-data-dir={folder}", *FLAGS]
    script = f'exec 13<&{to_read} 14>&{back_write} && exec 3<&13 4>&14 13<&- 14>&- && exec "$@"'
    process = subprocess.Popen(
        ["bash", "-c", script, "browser", *command],
        pass_fds=(to_read, back_write),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(to_read)
    os.close(back_write)
    try:
        yield Browser(process, to_write, back_read)
    finally:
        os.close(to_write)
        os.close(back_read)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
