"""Ctrl-C that neither gets lost nor comes twice.

Python raises KeyboardInterrupt wherever the main thread is. That may be inside a library that catches everything, and
then the run would simply go on. So it is noted, too, and long work asks `check`. And one press may be delivered twice:
`timeout` and other parents send it on to the process group, which has it already; the second would break off the
cleaning up after the first.
"""

from __future__ import annotations

import signal
import time
from types import FrameType

AGAIN_S = 1.0
"""Seconds after a Ctrl-C in which another counts as the same one."""

_pressed_at: float | None = None


def listen() -> None:
    """Handle Ctrl-C from here on, for a command that now begins; not where the process is to ignore it (nohup)."""
    global _pressed_at
    _pressed_at = None
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _pressed)


def check() -> None:
    """Raise KeyboardInterrupt if Ctrl-C has been pressed since `listen`."""
    if _pressed_at is not None:
        raise KeyboardInterrupt


def _pressed(number: int, frame: FrameType | None) -> None:
    global _pressed_at
    now = time.monotonic()
    if _pressed_at is None or now - _pressed_at > AGAIN_S:
        _pressed_at = now
        raise KeyboardInterrupt
