"""Arrays too long for the memory: they lie in files without a name, which end with the process, however it ends."""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from catalog.errors import PdidError

T = TypeVar("T", bound=np.generic)


class Pile(Generic[T]):
    """An array that grows at its end: in memory up to `room` values, then in a file in `folder`.

    What is asked for is read and not mapped: the pages that were touched would count as this process's memory, up to
    the whole file. Raises PdidError where the file can't be written.
    """

    def __init__(self, folder: Path, kind: type[T], room: int) -> None:
        self.folder, self.kind, self.room = folder, np.dtype(kind), room
        self.file: int | None = None
        self.held: list[NDArray[T]] = []
        self.length = 0

    def append(self, values: NDArray[T]) -> None:
        """Put values, shape (n,), at the end."""
        self.length += len(values)
        self.held.append(np.ascontiguousarray(values, self.kind))
        if self.file is not None or self.length > self.room:
            try:
                self._write()
            except OSError as error:
                raise PdidError(
                    f"{str(self.folder)!r} has no room for scratch files ({error.strerror}): make room there (some"
                    f" {(self.length * self.kind.itemsize >> 30) + 1} GiB were needed so far), and run again"
                ) from None

    def _write(self) -> None:
        if self.file is None:
            with tempfile.TemporaryFile(dir=self.folder) as file:
                self.file = os.dup(file.fileno())
        for values in self.held:
            left = memoryview(values.view(np.uint8).data)
            while left:
                left = left[os.write(self.file, left) :]
        self.held = []

    def __getitem__(self, span: slice) -> NDArray[T]:
        """The values from `span.start` to before `span.stop`."""
        if self.file is None:
            if len(self.held) > 1:
                self.held = [np.concatenate(self.held)]
            return self.held[0][span] if self.held else np.zeros(0, self.kind)
        size = self.kind.itemsize
        return np.frombuffer(os.pread(self.file, (span.stop - span.start) * size, span.start * size), self.kind)

    def close(self) -> None:
        """Give the room back."""
        self.held = []
        if self.file is not None:
            os.close(self.file)
            self.file = None


class Parts:
    """Keys of 64 bits in parts, each of which is added to in turn and read once: in memory where all have room there.

    `room` is the number of keys, of all parts together, that wait in memory to be written. Raises PdidError as `Pile`.
    """

    def __init__(self, folder: Path, room: int) -> None:
        self.pile = Pile(folder, np.uint64, 0)
        self.room, self.waiting = room, 0
        self.held: defaultdict[int, list[NDArray[np.uint64]]] = defaultdict(list)
        self.written: defaultdict[int, list[slice]] = defaultdict(list)

    def add(self, part: int, keys: NDArray[np.uint64]) -> None:
        """Add keys, shape (n,), to a part."""
        if len(keys):
            self.held[part].append(keys)
            self.waiting += len(keys)
        if self.waiting > self.room:
            for number, waiting in self.held.items():
                start = self.pile.length
                self.pile.append(np.concatenate(waiting))
                self.written[number].append(slice(start, self.pile.length))
            self.held.clear()
            self.waiting = 0

    def take(self, part: int) -> NDArray[np.uint64]:
        """All keys of a part, shape (n,), in no order; it has none afterwards."""
        held = self.held.pop(part, [])
        self.waiting -= sum(map(len, held))
        keys = [*(self.pile[span] for span in self.written.pop(part, [])), *held]
        return np.concatenate(keys) if keys else np.zeros(0, np.uint64)

    def close(self) -> None:
        """Give the room back."""
        self.held.clear()
        self.pile.close()
