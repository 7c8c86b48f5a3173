"""Text to speech with eSpeak NG, from the espeakng-loader wheel (GPL-3.0, hence an extra of its own).

It runs in a process of its own, a fresh one for every call: the library carries the phase of its
oscillators from one utterance to the next, through a restart even, and the same script would never
sound the same twice. Started as a module, this file is that process.
"""

from __future__ import annotations

import ctypes
import importlib.util
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.errors import PdidError

# Constants of eSpeak NG's C interface, speak_lib.h.
_SYNCHRONOUS = 2
_UTF8 = 1
_SPEED, _PITCH = 1, 3
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True, slots=True)
class Voice:
    """How one invented speaker sounds."""

    name: str  # eSpeak NG's: language, and the variant of the speaker after a plus sign
    pitch: int  # 0–100
    words_per_minute: int


def available() -> bool:
    """Whether the espeakng-loader wheel is installed."""
    return importlib.util.find_spec("espeakng_loader") is not None


def say(lines: Sequence[tuple[Voice, str]]) -> tuple[int, list[NDArray[np.float32]]]:
    """Say each line with its voice: the sample rate in Hz, and mono sound of shape (n,) in [-1, 1] per line.

    The same lines give the same samples. Raises PdidError if eSpeak NG can't be used here.
    """
    script = json.dumps([(*astuple(voice), text) for voice, text in lines])
    done = subprocess.run([sys.executable, "-m", __name__], input=script.encode(), capture_output=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit {done.returncode}"])[-1]
        mend = "pip install --force-reinstall espeakng-loader"
        raise PdidError(f"text to speech failed ({reason}); reinstall it with: {mend}")
    with np.load(io.BytesIO(done.stdout)) as said:
        return int(said["rate"]), [said[f"line_{n}"].astype(np.float32) / 32768.0 for n in range(len(lines))]


def _serve(script: list[tuple[str, int, int, str]]) -> dict[str, Any]:
    """Say the lines in this process: 16-bit samples of each, and their rate in Hz."""
    import espeakng_loader

    espeak = ctypes.CDLL(espeakng_loader.get_library_path())
    heard: list[NDArray[np.int16]] = []

    def hear(samples: Any, count: int, _events: object) -> int:
        if samples and count:
            heard.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="pdid-") as folder:
        # the library cuts its data path at 160 characters, and a virtual environment may lie deep
        (Path(folder) / "espeak-ng-data").symlink_to(espeakng_loader.get_data_path(), target_is_directory=True)
        found["rate"] = espeak.espeak_Initialize(_SYNCHRONOUS, 0, folder.encode(), 0)
        if found["rate"] <= 0:
            sys.exit("eSpeak NG can't read its voices")
        callback = _Callback(hear)  # named, or it would be collected while C still calls it
        espeak.espeak_SetSynthCallback(callback)
        for number, (voice, pitch, words_per_minute, text) in enumerate(script):
            if espeak.espeak_SetVoiceByName(voice.encode()) != 0:
                sys.exit(f"eSpeak NG has no voice {voice!r}")
            espeak.espeak_SetParameter(_SPEED, words_per_minute, 0)
            espeak.espeak_SetParameter(_PITCH, pitch, 0)
            heard.clear()
            data = text.encode()
            size = ctypes.c_size_t(len(data) + 1)
            espeak.espeak_Synth(data, size, 0, 0, 0, _UTF8, None, None)
            espeak.espeak_Synchronize()
            found[f"line_{number}"] = np.concatenate(heard) if heard else np.zeros(0, np.int16)
    return found


if __name__ == "__main__":
    np.savez(sys.stdout.buffer, **_serve(json.load(sys.stdin)))
