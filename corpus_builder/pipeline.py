"""One source through the stages: the only place that knows their order.

decode → music → speech → separation → speakers → pieces → loudness → quality → clips on disk.
Cheap stages come first and tell the dear ones where to work. What the catalog has from an earlier run
with the same settings is taken from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np

from catalog.records import RATE, Mark, Reject, Segment, Source, SourceResult, Span, SpeakerVoice, Stage, Status
from corpus_builder.audio import BandwidthMeter, Decoder, Track, probe, write_clip
from corpus_builder.engines import Models, beside
from corpus_builder.music import MusicFindings
from corpus_builder.pauses import find_dips, find_pauses, frame_levels
from corpus_builder.plan import STAGES, Plan
from corpus_builder.previews import write_preview
from corpus_builder.protocols import Progress, Turn
from corpus_builder.quality import clipped_share, judge, snr_db
from corpus_builder.segment import Findings, Piece, cut
from corpus_builder.separate import separate_spans
from corpus_builder.spans import join_spans, subtract, touching

StageProgress = Callable[[str, float], None]
"""Called with a stage's name and the share of it that is done."""

BY_KEEP_RULE = (Reject.CLIPPED, Reject.NOISY, Reject.LOW_QUALITY, Reject.QUIET)
NO_SPEECH = (Reject.SILENCE, Reject.MUSIC, Reject.NOT_SPEECH)
SILENT_DBFS = -50.0
SOFT = round(0.3 * RATE)  # the ends of words that a speech detector may miss
HOP = RATE // 100


@dataclass(slots=True)
class _Clock:
    """Seconds spent per stage, and what is told of it."""

    tell: StageProgress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.tell(name, 0.0)
        with self.time(name):
            yield

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def progress(self, name: str) -> Callable[[float], None]:
        return lambda share: self.tell(name, share)


class _Sound:
    """A source's sound in the scratch folder: decoded, and separated, when a stage first asks for it."""

    def __init__(self, path: Path, scratch: Path, models: Models, clock: _Clock) -> None:
        self.path, self.scratch, self.models, self.clock = path, scratch, models, clock
        self.separated: Sequence[Span] = ()
        self.lost_packets = 0
        self.bandwidth_hz: float | None = None

    @cached_property
    def mix(self) -> Track:
        """The source as it is: mono, 16 kHz."""
        with self.clock.stage("decode"):
            info = probe(self.path)
            meter = BandwidthMeter(info.sample_rate)
            decoder = Decoder(self.path, RATE, meter=meter)
            n_samples, file = 0, self.scratch / "mix.f32"
            with file.open("wb") as out:
                for block in decoder:
                    out.write(block.tobytes())
                    n_samples += len(block)
            self.lost_packets, self.bandwidth_hz = decoder.lost_packets, meter.hz()
        return Track(file, n_samples)

    @cached_property
    def voice(self) -> Track:
        """The source with the voice alone wherever it was separated."""
        if not self.separated:
            return self.mix
        mix = self.mix
        with self.clock.stage("separate"):
            progress = self.clock.progress("separate")
            out = self.scratch / "voice.f32"
            with self.models.all_threads():
                return separate_spans(self.path, mix, self.separated, self.models.separator, out, progress)


def process(
    source: Source,
    path: Path,
    known: SourceResult | None,
    corpus: Path,
    scratch: Path,
    models: Models,
    tell: StageProgress,
) -> SourceResult:
    """Take one source through the stages that its stored result lacks; its clips are on disk afterwards.

    `known` is what the catalog has of it. `scratch` is an empty folder for this source alone. Returns
    the complete result to be committed. Raises MediaError where `path` can't be decoded.
    """
    plan = models.plan
    clock = _Clock(tell)
    sound = _Sound(path, scratch, models, clock)
    stored = {stage.stage: stage for stage in known.stages} if known else {}
    first = plan.first_to_do({name: stage.config_hash for name, stage in stored.items()})
    stands = set(STAGES[: STAGES.index(first)] if first else STAGES)
    if known is None or "decode" not in stands:
        info = probe(path)
        source = replace(
            source,
            n_samples=len(sound.mix),
            sample_rate=info.sample_rate,
            channels=info.channels,
            codec=info.codec,
            title=source.title or info.title,
            bandwidth_hz=sound.bandwidth_hz,
            lost_packets=sound.lost_packets,
        )
    assert source.n_samples is not None
    marks = {mark.kind: [] for mark in (known.marks if known else ())}  # type: dict[str, list[Mark]]
    for mark in known.marks if known else ():
        marks[mark.kind].append(mark)
    if "vad" not in stands:
        found, speech = _listen(sound.mix, models, clock, "music" not in stands)
        if found:
            _store(marks, music=found.music, music_alone=found.alone)
        shortest = plan.settings.vad.min_speech_ms * RATE // 1000
        left = [s for s in subtract(speech, _spans(marks, "music_alone")) if len(s) >= shortest]
        _store(marks, speech=left)
    if "separate" not in stands:
        _store(marks, separated=_to_separate(plan, marks, source.n_samples))
        clock.seconds.setdefault("separate", 0.0)
    sound.separated = _spans(marks, "separated")
    voices = known.voices if known and "diarize" in stands else ()
    if "diarize" not in stands:
        music = subtract(_spans(marks, "music"), sound.separated)
        voice = sound.voice
        with clock.stage("diarize"):
            diarizer = models.diarizer
            with models.all_threads() if plan.engine == "pyannote" else nullcontext():
                diarization = diarizer(voice, _spans(marks, "speech"), music, clock.progress("diarize"))
        _store(marks, overlap=diarization.overlaps, unsure=diarization.unsure)
        marks["turn"] = [Mark("turn", t.start, t.end, t.speaker) for t in diarization.turns]
        voices = tuple(
            SpeakerVoice(f"{source.source_id}-{name}", source.source_id, tuple(map(float, voice_)))
            for name, voice_ in sorted((diarization.voices or {}).items())
        )
    segments = _segments(source, marks, known, stands, plan, sound, clock)
    segments = _measure(segments, marks, known, stands, corpus, sound, models, clock)
    finished = datetime.now(UTC)
    stages = tuple(
        stored[name]
        if name in stands
        else Stage(
            source.source_id,
            name,
            clock.seconds.get(name, 0.0),
            _audio_seconds(name, source, marks, segments),
            plan.hash[name],
            plan.model[name],
            finished,
        )
        for name in STAGES
    )
    everything = tuple(mark for kind in sorted(marks) for mark in marks[kind])
    done = replace(source, status=Status.DONE, error=None)
    return SourceResult(done, known.addresses if known else (), stages, everything, voices, tuple(segments))


def _listen(
    track: Track, models: Models, clock: _Clock, for_music: bool
) -> tuple[MusicFindings | None, tuple[Span, ...]]:
    """Music, where that is asked for, and speech: side by side where there are two threads, for both use only one."""

    def speech(progress: Progress) -> tuple[Span, ...]:
        detector = models.speech
        with clock.time("vad"):
            return detector(track, progress)

    def music() -> MusicFindings:
        with clock.stage("music"):
            return models.music(track, clock.progress("music"))

    if not for_music or models.threads == 1:
        found = music() if for_music else None
        clock.tell("vad", 0.0)
        return found, speech(clock.progress("vad"))
    with beside(speech) as heard:
        found = music()
        clock.tell("vad", 0.0)
        models.load_rest()
        return found, heard.result()


def _store(marks: dict[str, list[Mark]], **found: Sequence[Span]) -> None:
    for kind, spans in found.items():
        marks[kind] = [Mark(kind, span.start, span.end) for span in spans]


def _spans(marks: dict[str, list[Mark]], kind: str) -> list[Span]:
    return [mark.span for mark in marks.get(kind, ())]


def _to_separate(plan: Plan, marks: dict[str, list[Mark]], n_samples: int) -> list[Span]:
    """Where to take the music away: nowhere, everywhere, or where speech and music meet."""
    if plan.demucs is None or not marks.get("speech"):
        return []
    if plan.settings.separate.mode == "always":
        return [Span(0, n_samples)]
    # with the soft ends of words and the pauses that clips are joined across, or those would count as music
    reach = round(plan.settings.segment.join_s * RATE)
    padded = [Span(max(0, s.start - SOFT), min(s.end + SOFT, n_samples)) for s in _spans(marks, "speech")]
    clear = subtract([Span(0, n_samples)], _spans(marks, "music"))
    return subtract(join_spans(padded, 2 * reach), clear)


def _audio_seconds(name: str, source: Source, marks: dict[str, list[Mark]], segments: Sequence[Segment]) -> float:
    """Seconds of sound a stage worked on."""
    kind = {"separate": "separated", "diarize": "speech", "segment": "speech"}.get(name)
    if kind:
        return sum(map(len, _spans(marks, kind))) / RATE
    if name in ("loudness", "quality"):
        return sum(s.end - s.start for s in segments if s.loudness_lufs is not None) / RATE
    return (source.n_samples or 0) / RATE


def _segments(
    source: Source,
    marks: dict[str, list[Mark]],
    known: SourceResult | None,
    stands: set[str],
    plan: Plan,
    sound: _Sound,
    clock: _Clock,
) -> list[Segment]:
    """The pieces of a source, before any is measured."""
    if known and "segment" in stands:
        pieces = [
            Piece(
                s.start,
                s.end,
                s.speaker_id and s.speaker_id.removeprefix(f"{source.source_id}-"),
                None if s.kept or s.reject_reason in BY_KEEP_RULE else s.reject_reason,
            )
            for s in known.segments
        ]
    else:
        voice = sound.voice
        with clock.stage("segment"):
            speech, music = _spans(marks, "speech"), _spans(marks, "music")
            unwanted = subtract(music, sound.separated) if plan.settings.separate.mode != "never" else []
            findings = Findings(
                n_samples=len(voice),
                speech=speech,
                pauses=find_pauses(voice, speech, plan.settings.segment.min_pause_s),
                dips=find_dips(voice, speech),
                turns=[Turn(mark.start, mark.end, mark.label) for mark in marks["turn"]],
                overlaps=_spans(marks, "overlap"),
                unsure=_spans(marks, "unsure"),
                music=music,
                unwanted_music=unwanted,
            )
            pieces = [_named_quiet(voice, piece) for piece in cut(findings, plan.settings.segment)]
    return [
        Segment(
            segment_id=sha256(f"{source.source_id} {p.start} {p.end} {plan.hash['loudness']}".encode()).hexdigest()[
                :16
            ],
            source_id=source.source_id,
            speaker_id=f"{source.source_id}-{p.speaker}" if p.speaker else None,
            start=p.start,
            end=p.end,
            kept=False,
            reject_reason=p.reject,
            music_share=_share(p, marks.get("music", ())),
            separated=bool(touching(marks.get("separated", ()), p.start, p.end)),
        )
        for p in pieces
    ]


def _named_quiet(track: Track, piece: Piece) -> Piece:
    """Call a stretch without speech or music by its name: silence, or sound that is neither."""
    if piece.reject is not Reject.SILENCE:
        return piece
    power = [float((block**2).sum()) for block in track.blocks(10 * RATE, piece.start, piece.end)]
    level_dbfs = 10 * np.log10(sum(power) / (piece.end - piece.start) + 1e-12)
    return piece if level_dbfs < SILENT_DBFS else replace(piece, reject=Reject.NOT_SPEECH)


def _share(piece: Piece, marks: Sequence[Mark]) -> float:
    """Share of a piece that the marks (sorted, disjoint) cover."""
    inside = touching(marks, piece.start, piece.end)
    covered = sum(min(m.end, piece.end) - max(m.start, piece.start) for m in inside)
    return covered / (piece.end - piece.start)


def _measure(
    segments: list[Segment],
    marks: dict[str, list[Mark]],
    known: SourceResult | None,
    stands: set[str],
    corpus: Path,
    sound: _Sound,
    models: Models,
    clock: _Clock,
) -> list[Segment]:
    """Bring candidates to their loudness, score them, and write those that the keep rule lets stay."""
    from corpus_builder.loudness import level  # scipy's filters come along (`corpus_builder/engines.py`)

    settings = models.plan.settings
    scored = {s.segment_id: s for s in known.segments} if known and "loudness" in stands else {}
    is_speech = np.zeros(-(-(segments[-1].end if segments else 0) // HOP), bool)
    for mark in marks.get("speech", ()):
        is_speech[mark.start // HOP : -(-mark.end // HOP)] = True
    result = []
    for i, segment in enumerate(segments):
        clock.tell("quality", i / len(segments))
        before = scored.get(segment.segment_id)
        if segment.reject_reason is not None:
            if before:
                segment = replace(segment, snr_db=before.snr_db, clipped_share=before.clipped_share)
            elif segment.reject_reason not in NO_SPEECH:
                with clock.stage("quality"):
                    segment = _raw_scores(segment, sound.voice, is_speech)
            result.append(segment)
            continue
        name = f"clips/{segment.source_id}/{segment.segment_id}.wav"
        target = corpus / name
        if before:  # measured already: only the rule may have changed
            segment = replace(before, kept=False, reject_reason=None, path=None)
            verdict = Reject.QUIET if before.loudness_lufs is None else judge(segment, settings.keep)
            if verdict or (before.kept and target.is_file() and not settings.previews):
                result.append(_decided(segment, verdict, name))
                continue
        voice = sound.voice
        with clock.stage("loudness"):
            levelled = level(voice.read(segment.start, segment.end), settings.loudness)
        with clock.stage("quality"):
            if not before:
                segment = _raw_scores(segment, voice, is_speech)
            if levelled is None:
                result.append(_decided(segment, Reject.QUIET, name))
                continue
            if not before:
                segment = replace(
                    segment,
                    gain_db=levelled.gain_db,
                    loudness_lufs=levelled.loudness_lufs,
                    true_peak_dbtp=levelled.true_peak_dbtp,
                )
                mos = models.dnsmos(levelled.audio)
                segment = replace(segment, dnsmos_sig=mos.sig, dnsmos_bak=mos.bak, dnsmos_ovrl=mos.ovrl)
                if segment.separated:
                    mix = level(sound.mix.read(segment.start, segment.end), settings.loudness)
                    segment = replace(segment, dnsmos_ovrl_mix=models.dnsmos(mix.audio).ovrl if mix else None)
            verdict = judge(segment, settings.keep)
            if verdict is None:
                write_clip(target, levelled.audio)
                if settings.previews:
                    write_preview(target)
            result.append(_decided(segment, verdict, name))
    return result


def _raw_scores(segment: Segment, voice: Track, is_speech: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Segment:
    """Signal-to-noise ratio and clipping of a piece as recorded."""
    audio = voice.read(segment.start, segment.end)
    levels = frame_levels(audio)
    spoken = is_speech[segment.start // HOP :][: len(levels)]
    return replace(segment, snr_db=snr_db(levels[: len(spoken)], spoken), clipped_share=clipped_share(audio))


def _decided(segment: Segment, verdict: Reject | None, path: str) -> Segment:
    """The segment with the keep rule's verdict."""
    return replace(segment, kept=verdict is None, reject_reason=verdict, path=None if verdict else path)
