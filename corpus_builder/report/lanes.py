"""One recording as lanes over time: what each stage found in it, what was kept, and what was rejected and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from catalog.errors import UsageError
from catalog.page import Html, Section, bdi, data_uri, el, fold, join, player, table
from catalog.records import RATE, Reject
from catalog.sound import encode_mp3
from catalog.store import Catalog
from corpus_builder.audio import Samples
from corpus_builder.report.ask import Table, ask, clock, length, number, spoken
from corpus_builder.report.listen import MEANING
from corpus_builder.report.sound import Budget, levels, read

CHOICE = """
SELECT
    source_id,
    count(DISTINCT reject_reason) + count(DISTINCT local_speaker_id) + 3 * bool_or(separated)::INT
        + least(count(*) FILTER (kept), 10) / 2 AS events
FROM segments
WHERE ?::VARCHAR[] IS NULL OR list_contains(?::VARCHAR[], source_id)
GROUP BY source_id
ORDER BY events DESC, count(*) FILTER (kept) DESC, source_id
LIMIT 1
"""
SOURCE = "SELECT source_id, title, uri, accent, duration_s, status FROM sources WHERE source_id = ?"
PIECES = """
SELECT segment_id, start_s, end_s, local_speaker_id, kept, reject_reason, path, gain_db, separated, snr_db, dnsmos_ovrl,
    accent, text
FROM segments
WHERE source_id = ?
ORDER BY start_s
"""
MARKS = "SELECT kind, start_s, end_s, label FROM marks WHERE source_id = ? ORDER BY start_s, end_s, kind, label"
WINDOW_S = 600.0
"""Of a longer recording, the ten minutes with the most going on are shown."""
COLUMNS = 1200
BIT_RATE = 24_000  # of the whole recording; the clips have more
SPEAKERS = 8
COLOUR = {
    Reject.MUSIC_UNSEPARATED: "c1",
    Reject.OVERLAP: "c3",
    Reject.UNSURE_SPEAKER: "c3",
    Reject.TOO_SHORT: "c0",
    Reject.NO_PAUSE: "c0",
    Reject.QUIET: "c7",
    Reject.CLIPPED: "c7",
    Reject.NOISY: "c7",
    Reject.LOW_QUALITY: "c7",
}  # as in the funnel; the rest is c6
LEGEND = (
    ("kept", "good"),
    ("no speech", "c6"),
    ("speech over music", "c1"),
    ("not one sure speaker", "c3"),
    ("too short or long", "c0"),
    ("under the keep rule", "c7"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the catalog knows of the chosen recording."""

    source: Table
    pieces: Table
    marks: Table


@dataclass(frozen=True, slots=True)
class Window:
    """The stretch that is shown, in seconds of the recording."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin

    def place(self, start: float, end: float) -> str:
        """Where a stretch lies, as CSS."""
        left = max(start, self.begin) - self.begin
        width = min(end, self.end) - self.begin - left
        return f"left:{100 * left / self.seconds:.4f}%;width:{100 * width / self.seconds:.4f}%"

    def cut(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows that touch it."""
        return [row for row in rows if row["start_s"] < self.end and row["end_s"] > self.begin]


def ask_recording(catalog: Catalog, wanted: str | None, media: Mapping[str, Path]) -> Asked | None:
    """The recording to show: the wanted one, else the one with most going on whose media is at hand.

    None where the catalog has no pieces. Raises UsageError where there is no such recording.
    """
    if wanted is None:
        at_hand: list[str] | None = sorted(media)
        chosen = ask(catalog, CHOICE, [at_hand, at_hand]) if at_hand else None
        if chosen is None or not chosen.rows:
            chosen = ask(catalog, CHOICE, [None, None])
        if not chosen.rows:
            return None
        wanted = str(chosen.rows[0][0])
    source = ask(catalog, SOURCE, [wanted])
    if not source.rows:
        raise UsageError(
            f'there is no recording {wanted!r}: `pdid sql "SELECT source_id, title FROM sources"` lists them'
        )
    return Asked(source, ask(catalog, PIECES, [wanted]), ask(catalog, MARKS, [wanted]))


def recording(asked: Asked | None, corpus: Path, media: Mapping[str, Path], budget: Budget) -> Section:
    """The section with the lanes, the recording's player and the chosen clip's."""
    title = "One recording, as pdid sees it"
    if asked is None or not asked.pieces.rows:
        nothing = el("p", "There is nothing to show: no recording with pieces.")
        return Section("lanes", title, join(nothing, asked.source.sql() if asked else None))
    source = asked.source.objects()[0]
    pieces = asked.pieces.objects()
    window = choose_window(pieces)
    shown = window.cut(pieces)
    path = media.get(source["source_id"])
    mix = read(path, window.begin, window.seconds) if path else None
    voices = {row["segment_id"]: voice for row in shown if (voice := _voice(row, corpus)) is not None}
    heard = {key: budget.take(encode_mp3(voice)) for key, voice in voices.items()}
    whole = budget.take(encode_mp3(mix, BIT_RATE)) if mix is not None else None
    lanes = _lanes(asked, shown, window, mix, voices, heard)
    names = [el("div", bdi(name) if name else None, class_=css) for name, css, _ in lanes]
    tracks = [track for _, _, track in lanes]
    folds = el("div", _listing(shown), asked.pieces.sql("pieces"), asked.marks.sql("findings"), class_="folds")
    box = el(
        "div",
        _bar(),
        el(
            "div",
            el("div", names, class_="lane-names", aria_hidden="true"),
            el("div", el("div", tracks, el("div", class_="playhead"), class_="lane-track"), class_="lane-scroll"),
            class_="lane-frame",
        ),
        _panel(source, whole),
        folds,
        class_="lanes card",
        data_begin=f"{window.begin:.4f}",
        data_seconds=f"{window.seconds:.4f}",
    )
    return Section("lanes", title, join(_intro(source, window, mix), box))


def choose_window(pieces: Sequence[Mapping[str, Any]]) -> Window:
    """All of a recording of up to ten minutes; of a longer one the ten (by whole minutes) with most kinds of pieces."""
    end = max(row["end_s"] for row in pieces)
    if end <= WINDOW_S:
        return Window(0.0, end)
    kinds: dict[int, dict[object, float]] = {}
    for row in pieces:
        for minute in range(int(row["start_s"] // 60), int(row["end_s"] // 60) + 1):
            inside = min(row["end_s"], 60.0 * minute + 60) - max(row["start_s"], 60.0 * minute)
            kind = (row["reject_reason"], row["local_speaker_id"])
            counted = kinds.setdefault(minute, {})
            counted[kind] = counted.get(kind, 0.0) + min(inside, 6.0)  # a kind counts by its first seconds
    last = int((end - WINDOW_S) // 60)
    scores = [
        sum(sum(kinds.get(minute, {}).values()) for minute in range(first, first + int(WINDOW_S // 60)))
        for first in range(last + 1)
    ]
    begin = 60.0 * int(np.argmax(scores))
    return Window(begin, begin + WINDOW_S)


def _voice(row: Mapping[str, Any], corpus: Path) -> Samples | None:
    return read(corpus / row["path"]) if row["kept"] else None


def _lanes(
    asked: Asked,
    shown: Sequence[dict[str, Any]],
    window: Window,
    mix: Samples | None,
    voices: Mapping[str, Samples],
    heard: Mapping[str, bytes | None],
) -> list[tuple[str, str, Html]]:
    """The lanes from top to bottom: name, height, content."""
    marks = window.cut(asked.marks.objects())
    lanes: list[tuple[str, str, Html]] = []
    if mix is not None:
        lanes.append(("sound", "tall", el("div", _level(levels(mix, COLUMNS), "c6"), class_="lane tall sound")))
    if any(row["separated"] for row in shown):
        alone = _voices_level(shown, voices, window)
        lanes.append(("voice alone", "tall", el("div", _level(alone, "good"), class_="lane tall")))
    lanes.append(("music", "", _marks(marks, window, "music", "c1")))
    if any(mark["kind"] == "separated" for mark in marks):
        lanes.append(("separated", "", _marks(marks, window, "separated", "good")))
    lanes.append(("speech", "", _marks(marks, window, "speech", "c2")))
    turns = [mark for mark in marks if mark["kind"] == "turn"]
    for i, speaker in enumerate(sorted({mark["label"] or "" for mark in turns})[:SPEAKERS]):
        said = [mark for mark in turns if (mark["label"] or "") == speaker]
        lanes.append((f"speaker {speaker}", "", _marks(said, window, "turn", f"c{(0, 4, 5, 3, 2, 7, 6, 1)[i]}")))
    unsure = [mark for mark in marks if mark["kind"] in ("overlap", "unsure")]
    if unsure:
        lanes.append(("unsure, several", "", _marks(unsure, window, "", "c3")))
    for name, kept in (("kept", True), ("rejected", False)):
        buttons = [_piece(row, window, heard) for row in shown if row["kept"] is kept]
        label = f"{name.capitalize()} pieces in order of time: arrow keys move, Enter plays"
        lanes.append((name, "clips", el("div", buttons, class_="lane clips", role="group", aria_label=label)))
    lanes.append(("", "axis", _axis(window)))
    return lanes


def _piece(row: Mapping[str, Any], window: Window, heard: Mapping[str, bytes | None]) -> Html:
    sound = heard.get(row["segment_id"])
    colour = "good" if row["kept"] else COLOUR.get(Reject(row["reject_reason"]), "c6")
    scores = [
        f"DNSMOS {row['dnsmos_ovrl']:.2f}" if row["dnsmos_ovrl"] is not None else "",
        f"SNR {row['snr_db']:.0f} dB" if row["snr_db"] is not None else "",
        f"gain {row['gain_db']:+.1f} dB".replace("-", "−") if row["gain_db"] is not None else "",
        "voice separated from music" if row["separated"] else "",
    ]
    what = _what(row)
    return el(
        "button",
        type="button",
        class_="piece",
        tabindex=-1,
        style=f"{window.place(row['start_s'], row['end_s'])};background-color:var(--{colour})",
        aria_label=what,
        data_what=what,
        data_scores=" · ".join(filter(None, scores)) or None,
        data_text=row["text"],
        data_start=f"{row['start_s']:.4f}",
        data_end=f"{row['end_s']:.4f}",
        data_audio=data_uri(sound) if sound else None,
    )


def _what(row: Mapping[str, Any]) -> str:
    """A piece in a line: what became of it, when, how long, who."""
    fate = "kept" if row["kept"] else f"rejected, {spoken(Reject(row['reject_reason']))}"
    why = "" if row["kept"] else f" ({MEANING[Reject(row['reject_reason'])]})"
    who = f" · speaker {row['local_speaker_id'].rpartition('-')[2]}" if row["local_speaker_id"] else ""
    when = f"{clock(row['start_s'])} to {clock(row['end_s'])}"
    return f"{fate}{why} · {when} · {length(row['end_s'] - row['start_s'])}{who}"


def _marks(marks: Sequence[dict[str, Any]], window: Window, kind: str, colour: str) -> Html:
    drawn = [
        el("i", style=f"{window.place(mark['start_s'], mark['end_s'])};background:var(--{colour})")
        for mark in marks
        if not kind or mark["kind"] == kind
    ]
    return el("div", drawn, class_="lane", aria_hidden="true")


def _level(level: Samples, colour: str) -> Html:
    """A level as a shape around the middle line, (columns,) values of 0 to 1."""
    up = [f"{x},{50 - 46 * y:.1f}" for x, y in enumerate(level)]
    down = [f"{x},{50 + 46 * y:.1f}" for x, y in reversed(list(enumerate(level)))]
    shape = el("polygon", points=" ".join(up + down), style=f"fill:var(--{colour})")
    return el("svg", shape, viewBox=f"0 0 {len(level)} 100", preserveAspectRatio="none", aria_hidden="true")


def _voices_level(shown: Sequence[Mapping[str, Any]], voices: Mapping[str, Samples], window: Window) -> Samples:
    """The level of the separated clips at their places, their gain taken back; (COLUMNS,)."""
    level = np.zeros(COLUMNS, np.float32)
    for row in shown:
        voice = voices.get(row["segment_id"])
        if not row["separated"] or voice is None:
            continue
        ends = ((second - window.begin) / window.seconds * COLUMNS for second in (row["start_s"], row["end_s"]))
        a, b = (round(min(max(0.0, end), COLUMNS)) for end in ends)
        if b > a:
            before = max(0.0, window.begin - row["start_s"])
            inside = voice[round(before * RATE) :][: round((b - a) / COLUMNS * window.seconds * RATE)]
            level[a:b] = levels(inside * 10 ** (-(row["gain_db"] or 0.0) / 20), b - a)
    return level


def _axis(window: Window) -> Html:
    step = next(s for s in (5, 10, 15, 30, 60, 120) if window.seconds / s <= 12 or s == 120)
    first = -(-window.begin // step) * step
    ticks = [first + i * step for i in range(int((window.end - first) // step) + 1)]
    spans = [
        el("span", clock(tick), style=f"left:{100 * (tick - window.begin) / window.seconds:.3f}%")
        for tick in ticks
        if tick < window.end - 0.3 * step or tick == first
    ]
    return el("div", spans, class_="lane axis", aria_hidden="true")


def _bar() -> Html:
    entries = [el("li", el("i", style=f"background:var(--{colour})"), text) for text, colour in LEGEND]
    zoom = el("input", type="range", min=1, max=12, step=0.5, value=1)
    return el("div", el("ul", entries, class_="legend"), el("label", "Zoom", zoom), class_="lane-bar")


def _panel(source: Mapping[str, Any], whole: bytes | None) -> Html:
    """What the chosen piece is, and the two players."""
    about = el(
        "div", el("p", class_="what"), el("p", class_="note"), el("p", class_="quote", dir="auto"), class_="about"
    )
    name = source["title"] or source["source_id"]
    mix = (
        el("div", el("p", "The recording", class_="note"), player(f"The recording {name}", whole, class_="recording"))
        if whole
        else el("p", "The recording itself is no longer where it was, or did not fit.", class_="note")
    )
    clip = el("audio", controls=True, class_="clip", aria_label="The chosen clip")
    return el(
        "div", about, mix, el("div", el("p", "The chosen clip, as kept", class_="note"), clip), class_="lane-panel"
    )


def _intro(source: Mapping[str, Any], window: Window, mix: Samples | None) -> Html:
    part = "" if window.begin == 0 else f", from {clock(window.begin)} to {clock(window.end)}"
    if window.begin == 0 and window.end < source["duration_s"] - 1:
        part = f", the first {length(window.end)}"
    accent = join(", ", bdi(source["accent"])) if source["accent"] else None
    return el(
        "p",
        el("strong", bdi(source["title"] or source["source_id"])),
        accent,
        f", {length(source['duration_s'] or window.end)}{part}. Point at a piece to see why it was kept or rejected;"
        " press it to hear it. ",
        "A click in the sound plays from there." if mix is not None else None,
    )


def _listing(shown: Sequence[Mapping[str, Any]]) -> Html:
    """The pieces as a table: what the lanes say, in words."""
    rows = [
        (
            clock(row["start_s"]),
            number(row["end_s"] - row["start_s"]),
            (row["local_speaker_id"] or "").rpartition("-")[2],
            "kept" if row["kept"] else spoken(Reject(row["reject_reason"])),
            number(row["snr_db"], 0),
            number(row["dnsmos_ovrl"], 2),
            el("span", row["text"], dir="auto", class_="quote") if row["text"] else None,
        )
        for row in shown
    ]
    columns = ("from", "seconds", "speaker", "outcome", "SNR dB", "DNSMOS", "text")
    return fold("Table of the pieces", table("The pieces in order of time", columns, rows))
