"""Taking the music away from under the speech: Demucs over a stream, and over chosen stretches of a file.

The network is Hybrid Transformer Demucs (Rouard et al. 2023, arXiv 2211.08553). Pieces, their overlap
and their triangular weights are those of `demucs.apply.apply_model(shifts=0)`, so that the stream's output
is that function's over the undivided input; but only one batch of pieces is ever in memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import yaml

from catalog.errors import PdidError, UsageError
from catalog.hub import Found
from catalog.records import RATE, Span
from corpus_builder.audio import FLOAT_BYTES, Decoder, Samples, Track
from corpus_builder.config import Separate
from corpus_builder.gpu import Batches
from corpus_builder.models import obtain_demucs, safe_unpickling
from corpus_builder.protocols import Each, Progress, Separator, labelled

GRID = 160
"""Samples at 16 kHz between instants that are whole samples at 44.1 kHz too (441 there): where regions begin."""

CONTEXT = RATE
"""What the network hears, at least, before and after a span, in samples at 16 kHz."""

FADE = 320
"""Cross-fade between the mix and the separated voice outside a span's edges: 20 ms, in samples at 16 kHz."""


class Demucs:
    """htdemucs as a `Separator`: stereo blocks of any size in, the voice out, flat memory, the same twice."""

    def __init__(self, settings: Separate, found: Found | None = None, each: Each = map) -> None:
        """Load the model that `settings.model` names (or the one already `found`) to the GPU if there is one.

        Raises PdidError where it can't be had or read, UsageError where it is no HTDemucs with a `vocals` source.
        """
        import torch

        found = found or obtain_demucs(settings.model)
        self.name, self.each = found.version, each
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.networks = [(network.to(self.device), weight) for network, weight in _load(found)]
        first = self.networks[0][0]
        self.rate = int(first.samplerate)
        self.vocals = first.sources.index("vocals")
        self.piece = int(self.rate * first.segment)
        self.stride = int((1 - settings.overlap) * self.piece)
        rise = np.arange(1, self.piece // 2 + 1)
        fall = np.arange(self.piece - self.piece // 2, 0, -1)
        weight = np.concatenate([rise, fall]).astype(np.float32)
        self.weight = weight / weight.max()
        noise = 0.1 * torch.randn((1, 2, self.piece), generator=torch.Generator().manual_seed(0))
        self.batches = Batches(self._voice, noise.to(self.device))

    def __call__(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """Blocks (n, 2) at `rate` in; the voice's blocks (m, 2) out, the same total length."""
        joined = np.zeros((2, self.piece), np.float32)  # weighted sum of the pieces so far from where the next begins
        weights = np.zeros(self.piece, np.float32)  # and their weights
        for lengths, voices in labelled(self.each, self.run, self._batches(blocks)):
            for length, voice in zip(lengths, voices, strict=True):
                before = (self.piece - length) // 2  # what a short last piece was padded with on its left
                joined[:, :length] += self.weight[:length] * voice[:, before : before + length]
                weights[:length] += self.weight[:length]
                done = min(self.stride, length)
                yield (joined[:, :done] / weights[:done]).T
                joined = np.pad(joined[:, self.stride :], ((0, 0), (0, self.stride)))
                weights = np.pad(weights[self.stride :], (0, self.stride))

    def _batches(self, blocks: Iterable[Samples]) -> Iterator[tuple[list[int], Samples]]:
        """Pieces, (n, 2, piece), and how many samples of each are in the stream."""
        sound = np.zeros((0, 2), np.float32)  # the input from sample `origin` on
        origin = start = 0  # `start` is where the next piece begins
        waiting: list[Samples] = []
        at_once = self.batches.at_once
        batch = (at_once - 1) * self.stride + self.piece
        more = iter(blocks)
        ended = False
        while not ended:
            held = origin + len(sound) + sum(map(len, waiting))
            while held < start + batch and not ended:
                block = next(more, None)
                if block is None:
                    ended = True
                else:
                    waiting.append(block)
                    held += len(block)
            sound = np.concatenate([sound, *waiting])
            waiting = []
            last = held if ended else held - self.piece + 1
            starts = list(range(start, last, self.stride))
            for first in range(0, len(starts), at_once):
                group = starts[first : first + at_once]
                pieces = np.stack([_padded(sound, at - origin, self.piece) for at in group])
                yield [min(self.piece, held - at) for at in group], pieces
            start = starts[-1] + self.stride if starts else start
            keep = max(origin, start - self.piece // 2)  # a short last piece reaches back half a piece
            sound, origin = sound[keep - origin :], keep

    def run(self, pieces: Samples) -> Samples:
        """The voice of whole pieces, both (n, 2, piece) float32; what `each` is given."""
        import torch

        result: Samples = self.batches(torch.tensor(pieces).to(self.device)).cpu().numpy()
        return result

    def _voice(self, mix: Any) -> Any:
        """The networks' voices by their shares, (n, 2, piece), of as many pieces; what `Batches` runs."""
        import torch

        voice = torch.zeros_like(mix)
        before = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # the flash attention taken instead is an eighth faster here
        try:
            for network, weight in self.networks:
                voice += weight * network(mix)[:, self.vocals]
        finally:
            torch.backends.mha.set_fastpath_enabled(before)
        return voice


def _padded(sound: Samples, start: int, size: int) -> Samples:
    """`size` samples (2, size) for the piece at `start`; a piece over the end is centred, as apply_model does."""
    start -= (size - min(size, len(sound) - start)) // 2
    inside = sound[max(0, start) : start + size]
    left = max(0, -start)
    return np.pad(inside.T, ((0, 0), (left, size - left - len(inside))))


def _load(found: Found) -> list[tuple[Any, float]]:
    """The networks of a bag and their shares in the voice. Networks without a share are left out."""
    from demucs.apply import BagOfModels
    from demucs.htdemucs import HTDemucs
    from demucs.repo import ModelLoadingError, check_checksum
    from demucs.states import load_model

    bag = yaml.safe_load(found.files[0].read_text())
    models = []
    for file in found.files[1:]:
        try:
            if file.suffix == ".safetensors":
                models.append(_load_safetensors(file))
            else:
                if "-" in file.stem:
                    check_checksum(file, file.stem.rsplit("-", 1)[1])
                with safe_unpickling(str(file), _pickled_classes()):
                    models.append(load_model(file))  # type: ignore[no-untyped-call]
        except (ModelLoadingError, RuntimeError, KeyError, TypeError, OSError, ValueError, EOFError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise PdidError(f"{file} is no readable Demucs model ({reason}); fetch it again") from None
    if not all(isinstance(model, HTDemucs) and "vocals" in model.sources for model in models):
        raise UsageError(f"{found.name} is no Hybrid Transformer Demucs with a vocals source; use htdemucs")
    whole = BagOfModels(models, bag.get("weights"), bag.get("segment"))
    vocals = whole.sources.index("vocals")
    shares = [weights[vocals] for weights in whole.weights]
    return [(model.eval(), share / sum(shares)) for model, share in zip(whole.models, shares, strict=True) if share]


def _pickled_classes() -> list[Any]:
    """What the published files hold beside tensors: the network's class, its segment, and a few numpy scalars."""
    from fractions import Fraction

    from demucs.htdemucs import HTDemucs

    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    return [
        HTDemucs,
        Fraction,
        np.dtype,
        scalar,
        (scalar, "numpy.core.multiarray.scalar"),
        type(np.dtype(np.float64)),
        type(np.dtype(np.int64)),
    ]


def _load_safetensors(file: Path) -> Any:
    """A network in the hub's format, whose header names the class to build: only Demucs' own is built."""
    from demucs.hf import load_safetensors_model
    from safetensors import safe_open

    with safe_open(str(file), framework="pt") as content:
        header = content.metadata() or {}
    if header.get("klass") != "demucs.htdemucs.HTDemucs" or "structure" in header:
        raise PdidError(f"{file} describes {header.get('klass')}, not demucs.htdemucs.HTDemucs; fetch it again")
    return load_safetensors_model(file)


def separate_spans(
    path: Path, track: Track, spans: Sequence[Span], separator: Separator, out: Path, progress: Progress
) -> Track:
    """A copy of `track` in the file `out` with the voice alone inside `spans` (samples at 16 kHz, any order).

    `path` is decoded once, in stereo at the separator's rate; every span is heard with a second or more around
    it (as much as fills whole pieces, which cost the same full or empty), and fades into the mix within 20 ms
    outside its edges. Positions agree with `track` to the sample.
    Returns `track` itself where there is nothing to separate. Raises MediaError as decoding does.
    """
    spans = _merged([span for span in spans if span.start < min(span.end, len(track))], 2 * FADE)
    if not spans:
        return track
    regions = _merged([region_of(span, separator) for span in _merged(spans, 2 * CONTEXT)], 0)
    shutil.copyfile(track.path, out)
    stretches = _Stretches(iter(Decoder(path, separator.rate, channels=2)))
    total, done = sum(min(r.end, len(track)) - r.start for r in regions), 0
    with out.open("r+b") as copy:
        for region in regions:
            inside = [span for span in spans if region.start <= span.start < region.end]
            first, last = (-(-at * separator.rate // RATE) for at in (region.start, region.end))
            at = region.start
            for voice in _to_track_rate(separator(stretches.read(first, last)), separator.rate):
                voice = voice[: max(0, len(track) - at)]
                _overlay(copy, track, voice, at, inside)
                at += len(voice)
                progress(min(1.0, (done + at - region.start) / total))
            done += min(region.end, len(track)) - region.start
    return Track(out, len(track))


def region_of(span: Span, separator: Separator) -> Span:
    """A span with the context it is separated in, as long as a whole number of the separator's strides."""
    stride = separator.stride * RATE // separator.rate
    need = len(span) + 2 * CONTEXT
    spare = -(-need // stride) * stride - need
    start = max(0, (span.start - CONTEXT - spare // 2) // GRID * GRID)
    return Span(start, max(start + need + spare, span.end + CONTEXT))


def _merged(spans: Sequence[Span], gap: int) -> list[Span]:
    """Spans in order; those that overlap or lie within `gap` samples of each other made one."""
    result: list[Span] = []
    for span in sorted(spans, key=lambda span: span.start):
        if result and span.start <= result[-1].end + gap:
            result[-1] = Span(result[-1].start, max(result[-1].end, span.end))
        else:
            result.append(span)
    return result


class _Stretches:
    """Stretches of a stream of blocks, taken in order, the rest passed over."""

    def __init__(self, blocks: Iterator[Samples]) -> None:
        self.blocks, self.at = blocks, 0
        self.rest: Samples | None = None  # the part of the last block that no stretch has taken, starting at `at`

    def read(self, start: int, end: int) -> Iterator[Samples]:
        """Blocks that make up samples [start, end) of the stream."""
        while self.at < end:
            block = self.rest if self.rest is not None else next(self.blocks, None)
            self.rest = None
            if block is None:
                return
            first, last = max(0, start - self.at), min(len(block), end - self.at)
            if last < len(block):
                self.rest = block[last:]
            self.at += last
            if first < last:
                yield block[first:last]


def _to_track_rate(voice: Iterable[Samples], rate: int) -> Iterator[Samples]:
    """Stereo blocks (n, 2) at `rate` to mono blocks (m,) at 16 kHz, folded as the decoder folds stereo."""
    resampler = soxr.ResampleStream(rate, RATE, 1, dtype="float32")
    for block in voice:
        yield resampler.resample_chunk((block.sum(axis=1) * np.float32(np.sqrt(0.5))).astype(np.float32))
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def _overlay(copy: Any, track: Track, voice: Samples, at: int, spans: Sequence[Span]) -> None:
    """Write the voice that begins at sample `at` over the copy, where a span or its fades reach."""
    for span in spans:
        start, end = max(at, span.start - FADE, 0), min(at + len(voice), span.end + FADE)
        if start >= end:
            continue
        here = np.arange(start, end)
        share = np.minimum((here - span.start + FADE) / FADE, (span.end + FADE - here) / FADE).clip(0, 1)
        mix = track.read(start, end)
        copy.seek(start * FLOAT_BYTES)
        copy.write((mix + share * (voice[start - at : end - at] - mix)).astype(np.float32).tobytes())
