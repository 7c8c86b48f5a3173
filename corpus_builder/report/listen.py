"""Samples to listen to: of what is kept, by accent, and of what is rejected, by reason."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from catalog.page import Html, Section, bdi, el, join, player, quote
from catalog.records import Reject
from catalog.sound import encode_mp3
from catalog.store import Catalog
from corpus_builder.report.ask import Table, ask, clock, length, spoken
from corpus_builder.report.sound import Budget, read

# The seed of the samples is in the query: another text beside the id draws others.
KEPT = """
SELECT nth, accent, segment_id, path, recording, local_speaker_id, start_s, duration_s, dnsmos_ovrl, text, language
FROM (
    SELECT
        segments.* REPLACE (coalesce(segments.accent, '(none)') AS accent),
        coalesce(title, segments.source_id) AS recording,
        row_number() OVER (PARTITION BY segments.accent ORDER BY md5(segment_id || ' seed 0')) AS nth
    FROM segments JOIN sources USING (source_id)
    WHERE kept
)
WHERE nth <= 3
ORDER BY nth, accent
"""
REJECTED = """
SELECT nth, reject_reason, segment_id, source_id, recording, accent, start_s, duration_s
FROM (
    SELECT
        segments.*, coalesce(title, segments.source_id) AS recording,
        row_number() OVER (
            PARTITION BY reject_reason ORDER BY segments.duration_s < 0.5, md5(segment_id || ' seed 0')
        ) AS nth
    FROM segments JOIN sources USING (source_id)
    WHERE NOT kept AND list_contains(?::VARCHAR[], segments.source_id)
)
WHERE nth <= 3
ORDER BY nth, reject_reason
"""
LONGEST_S = 8.0
AROUND_S = 0.5
"""Seconds of the recording before and after a rejected piece: without them many are too short to hear."""

MEANING = {
    Reject.SILENCE: "nobody speaks and nothing plays",
    Reject.MUSIC: "music without speech",
    Reject.NOT_SPEECH: "sound that is neither speech nor music",
    Reject.MUSIC_UNSEPARATED: "speech over music that was not taken away",
    Reject.OVERLAP: "several speakers at once",
    Reject.UNSURE_SPEAKER: "the diarizer can't tell who speaks",
    Reject.TOO_SHORT: "less than the shortest clip between two cuts",
    Reject.NO_PAUSE: "longer than the longest clip, with no pause to cut at",
    Reject.QUIET: "too quiet to be brought to the wanted loudness",
    Reject.CLIPPED: "the recording is overdriven",
    Reject.NOISY: "signal-to-noise ratio under the keep rule",
    Reject.LOW_QUALITY: "DNSMOS under the keep rule",
}


def ask_samples(catalog: Catalog, media: Mapping[str, Path]) -> tuple[Table, Table]:
    """Which kept clips and which rejected pieces are heard; of the latter, those whose media is at hand."""
    return ask(catalog, KEPT), ask(catalog, REJECTED, [sorted(media)])


def kept_samples(asked: Table, corpus: Path, budget: Budget) -> Section:
    """Players for kept clips, as they are in the corpus, by accent."""
    cards: dict[str, list[Html]] = {}
    for row in asked.objects():
        sound = read(corpus / row["path"], 0.0, LONGEST_S)
        heard = budget.take(encode_mp3(sound)) if sound is not None else None
        if heard is None:
            continue
        where = f"{clock(row['start_s'])}, {length(row['duration_s'])}"
        score = f", DNSMOS {row['dnsmos_ovrl']:.1f}" if row["dnsmos_ovrl"] is not None else ""
        card = el(
            "li",
            el("p", bdi(row["recording"]), el("br"), el("span", where + score, class_="what")),
            quote(row["text"], row["language"]) if row["text"] else None,
            player(f"Kept, {row['accent']}: {row['recording']} from {clock(row['start_s'])}", heard),
        )
        cards.setdefault(row["accent"], []).append(card)
    intro = el(
        "p",
        f"Three clips of each accent, drawn with a seed, as they are in the corpus: at one loudness, 16 kHz. Here the"
        f" first {LONGEST_S:.0f} s of each, as MP3.",
    )
    groups = [join(el("h3", bdi(accent)), el("ul", cards[accent], class_="players")) for accent in sorted(cards)]
    nothing = None if groups else el("p", "No kept clip's file is at hand.")
    return Section("kept", "Listen: what is kept", join(intro, groups, nothing, _folds(asked)))


def rejected_samples(asked: Table, media: Mapping[str, Path], budget: Budget) -> Section:
    """Players for rejected pieces, from the recordings, by reason."""
    cards: dict[Reject, list[Html]] = {}
    for row in asked.objects():
        start = max(0.0, row["start_s"] - AROUND_S)
        seconds = min(row["duration_s"] + row["start_s"] - start + AROUND_S, LONGEST_S)
        sound = read(media[row["source_id"]], start, seconds)
        heard = budget.take(encode_mp3(sound)) if sound is not None else None
        if heard is None:
            continue
        where = f"{clock(row['start_s'])}, {length(row['duration_s'])}"
        reason = Reject(row["reject_reason"])
        accent = el("span", bdi(row["accent"]), ", ", class_="what") if row["accent"] else None
        card = el(
            "li",
            el("p", bdi(row["recording"]), el("br"), accent, el("span", where, class_="what")),
            player(f"Rejected, {spoken(reason)}: {row['recording']} from {clock(row['start_s'])}", heard),
        )
        cards.setdefault(reason, []).append(card)
    intro = el(
        "p",
        f"Up to three pieces for each reason, drawn with a seed, from the recordings themselves with {AROUND_S} s on"
        f" either side, at most {LONGEST_S:.0f} s. Judge the filters by ear.",
    )
    groups = [
        join(
            el("h3", spoken(reason)),
            el("p", f"{MEANING[reason][0].upper()}{MEANING[reason][1:]}."),
            el("ul", cards[reason], class_="players"),
        )
        for reason in Reject
        if reason in cards
    ]
    nothing = None if groups else el("p", "Nothing was rejected, or the recordings are no longer where they were.")
    return Section("rejected", "Listen: what is rejected", join(intro, groups, nothing, _folds(asked)))


def _folds(asked: Table) -> Html:
    return el("div", asked.sql(), class_="folds")
