"""Draw a recording as pdid sees it, one lane per finding: `python docs/make_picture.py CORPUS TITLE OUT.svg`.

The picture in the README is the demo's: `pdid demo`, then
`python docs/make_picture.py corpus "Morning at the Harbour" docs/picture.svg`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Patch

from catalog.records import RATE, Mark, Reject, Segment
from catalog.store import open_catalog
from corpus_builder.audio import Decoder

INK, FAINT = "#24292f", "#8c959f"
SPEAKERS = ("#0969da", "#bf5700", "#1a7f37", "#8250df", "#b4236b", "#4d6b00")
MUSIC, SPEECH = "#d4a72c", "#57606a"
REJECTED = {
    Reject.SILENCE: ("#d0d7de", "silence"),
    Reject.NOT_SPEECH: ("#afb8c1", "not speech"),
    Reject.MUSIC: ("#f2dc9b", "music"),
    Reject.MUSIC_UNSEPARATED: ("#cf222e", "speech over music"),
    Reject.OVERLAP: ("#82071e", "several at once"),
    Reject.UNSURE_SPEAKER: ("#e58a92", "speaker unsure"),
    Reject.TOO_SHORT: ("#8c959f", "too short"),
}
OTHER = ("#424a53", "other reasons")
TOP, MUSIC_Y, SPEECH_Y, SPEAKER_Y, REJECTED_Y, CLIPS_Y = 5.2, 4.0, 3.3, 2.6, 1.55, 0.55


def envelope(path: Path, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Loudest sample of each of `columns` stretches, shape (columns,), and their middles in seconds."""
    sound = np.concatenate([block[:, 0] for block in Decoder(path, RATE)])
    edges = np.linspace(0, len(sound), columns + 1).astype(int)
    return np.maximum.reduceat(np.abs(sound), edges[:-1]), (edges[:-1] + edges[1:]) / 2 / RATE


def bars(axes: Axes, spans: Iterable[tuple[int, int, str]], y: float, height: float) -> None:
    """Flat bars at (start, end) samples in their colours."""
    for start, end, colour in spans:
        axes.broken_barh([(start / RATE, (end - start) / RATE)], (y - height / 2, height), color=colour, linewidth=0)


def clip_boxes(axes: Axes, clips: Iterable[Segment], colour: dict[str, str]) -> None:
    """A rounded box per kept clip, with its length in it."""
    for clip in clips:
        start, length = clip.start / RATE, (clip.end - clip.start) / RATE
        place = (start + 0.06, CLIPS_Y - 0.34)
        shape = "round,pad=0,rounding_size=0.25"
        box = FancyBboxPatch(
            place, length - 0.12, 0.68, boxstyle=shape, mutation_aspect=0.35, linewidth=0,
            facecolor=colour[clip.speaker_id or ""],
        )  # fmt: skip
        axes.add_patch(box)
        axes.text(
            start + length / 2, CLIPS_Y, f"{length:.1f} s", color="white", ha="center", va="center", fontsize=9,
            fontweight="bold",
        )  # fmt: skip


def draw(media: Path, title: str, marks: list[Mark], segments: list[Segment], out: Path) -> None:
    """Draw one recording's lanes and write the picture."""
    speakers = sorted({mark.label for mark in marks if mark.kind == "turn"})
    colours = {name: SPEAKERS[i % len(SPEAKERS)] for i, name in enumerate(speakers)}
    loudest, at = envelope(media, 1200)
    length_s = max(segment.end for segment in segments) / RATE
    figure, axes = plt.subplots(figsize=(11, 4.6))

    axes.fill_between(at, TOP - 0.6 * loudest / loudest.max(), TOP + 0.6 * loudest / loudest.max(), color=FAINT, lw=0)
    found = {kind: [mark for mark in marks if mark.kind == kind] for kind in ("music", "speech", "turn")}
    bars(axes, ((m.start, m.end, MUSIC) for m in found["music"]), MUSIC_Y, 0.4)
    bars(axes, ((m.start, m.end, SPEECH) for m in found["speech"]), SPEECH_Y, 0.4)
    bars(axes, ((m.start, m.end, colours[m.label]) for m in found["turn"]), SPEAKER_Y, 0.4)
    rejected = [segment for segment in segments if not segment.kept]
    reasons = [(s.start, s.end, REJECTED.get(s.reject_reason, OTHER)[0]) for s in rejected if s.reject_reason]
    bars(axes, reasons, REJECTED_Y, 0.6)
    kept = [segment for segment in segments if segment.kept]
    by_id = {s.speaker_id or "": colours[(s.speaker_id or "").rpartition("-")[2]] for s in kept}
    clip_boxes(axes, kept, by_id)

    kept_s = sum(segment.end - segment.start for segment in kept) / RATE
    lanes = {
        TOP: "recording", MUSIC_Y: "music", SPEECH_Y: "speech", SPEAKER_Y: "who speaks",
        REJECTED_Y: "left out,\nand why", CLIPS_Y: f"kept:\n{len(kept)} clips, {kept_s:.0f} s",
    }  # fmt: skip
    axes.set_yticks(list(lanes), list(lanes.values()), color=INK, fontsize=10.5)
    axes.set_ylim(0, 6.0)
    axes.set_xlim(0, length_s)
    axes.set_xlabel("seconds", color=INK)
    axes.tick_params(length=0, colors=INK)
    axes.set_title(f"“{title}”, {length_s:.0f} s, in the catalog", loc="left", color=INK, fontsize=12.5, pad=10)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.grid(axis="x", color="#eaeef2", linewidth=0.8)
    axes.set_axisbelow(True)
    there = {segment.reject_reason for segment in rejected}
    legend = [Patch(color=colours[name], label=f"speaker {name}") for name in speakers]
    legend += [Patch(color=colour, label=label) for reason, (colour, label) in REJECTED.items() if reason in there]
    if there - REJECTED.keys():
        legend.append(Patch(color=OTHER[0], label=OTHER[1]))
    axes.legend(
        handles=legend, ncols=len(legend), loc="upper center", bbox_to_anchor=(0.45, -0.14), frameon=False,
        fontsize=9.5, labelcolor=INK, handlelength=1.2, columnspacing=1.4,
    )  # fmt: skip
    mpl.rcParams["svg.hashsalt"] = "pdid"  # the same picture gives the same file
    figure.savefig(
        out, bbox_inches="tight", facecolor="white", metadata={"Date": None} if out.suffix == ".svg" else None
    )


def main(corpus: Path, title: str, out: Path) -> None:
    """Draw the recording of a corpus that has this title."""
    with open_catalog(corpus) as catalog:
        source = next((source for source in catalog.sources() if source.title == title), None)
        if source is None:
            sys.exit(f"there is no recording called {title!r} in {corpus}: `pdid sql` can list them")
        marks, segments = catalog.marks(source.source_id), catalog.segments(source.source_id)
    draw(Path(source.uri), title, marks, segments, out)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
