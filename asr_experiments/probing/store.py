"""What the layers of one model gave: means in memory, whole frames on disk, for they are many times as large."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import IO

import numpy as np

from asr_experiments.features import Floats
from asr_experiments.probing.shifts import Sound

Key = tuple[int, Sound]
"""A clip, by its number, as it sounds."""


class Store:
    """The answers of a model's layers by clip and sound; the frames' files go when it is closed."""

    def __init__(self, n_layers: int, folder: Path) -> None:
        """`folder` is where the files go; it is made."""
        folder.mkdir(parents=True, exist_ok=True)
        self._scratch = TemporaryDirectory(prefix=".frames-", dir=folder)
        self._files: list[IO[bytes]] = [(Path(self._scratch.name) / f"{i}.f16").open("w+b") for i in range(n_layers)]
        self._means: list[dict[Key, Floats]] = [{} for _ in range(n_layers)]
        self._places: list[dict[Key, tuple[int, int, int]]] = [{} for _ in range(n_layers)]  # where, frames, width

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            file.close()
        self._scratch.cleanup()

    def add(self, key: Key, layers: Sequence[Floats], keep_frames: bool) -> None:
        """Take a clip's frames (n, width) of every layer: their mean, and with `keep_frames` themselves."""
        for i, frames in enumerate(layers):
            self._means[i][key] = frames.mean(0)
            if keep_frames:
                file = self._files[i]
                self._places[i][key] = (file.seek(0, 2), *frames.shape)
                file.write(frames.astype(np.float16).tobytes())

    def means(self, layer: int, keys: Sequence[Key]) -> Floats:
        """The means over a layer's frames, (len(keys), width)."""
        return np.stack([self._means[layer][key] for key in keys])

    def frames(self, layer: int, keys: Sequence[Key]) -> list[Floats]:
        """A layer's frames of clips, each (n, width), as they were to half precision."""
        file = self._files[layer]
        found = []
        for key in keys:
            at, n, width = self._places[layer][key]
            file.seek(at)
            values = np.frombuffer(file.read(2 * n * width), np.float16).reshape(n, width)
            found.append(values.astype(np.float32))
        return found
