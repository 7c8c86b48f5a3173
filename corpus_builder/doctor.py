"""What this machine has and lacks for building a corpus, with the command that mends each lack."""

from __future__ import annotations

import importlib
import importlib.util
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from catalog.errors import PdidError
from corpus_builder.models import ModelInfo, all_models

State = Literal["ok", "note", "missing"]

FULL_GB, TIGHT_GB = 1.0, 10.0
"""Free space under which ingesting an hour of media is likely to fail, and under which a word of warning is due."""

OLD_DAYS = 90
"""The age at which a downloader meets sites that have changed since."""

RUNTIMES = ("deno", "node", "bun", "quickjs")
"""The JavaScript runtimes that downloads may use, the best first; found on PATH or beside this Python."""

REINSTALL = "make setup, or: pip install -c constraints.txt -e ."


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `missing` means that the main job can't be done without it; `note`, that it can."""

    group: str  # python, packages, decoding, models, disk, web, gpu, catalog
    name: str
    state: State
    found: str
    mend: str | None = None  # what to do, where something is to be done


def examine(corpus: Path) -> Iterator[Check]:
    """Look at everything, the quick things first."""
    yield Check("python", "Python", "ok", f"{platform.python_version()} ({sys.executable})")
    yield from packages(requires("pdid") or [])
    yield from ffmpeg()
    for model in all_models():
        yield model_check(model)
    yield disk(corpus)
    yield downloader(date.today())
    yield javascript()
    yield from torch_and_gpu()
    yield catalog_version(corpus)


def packages(requirements: list[str]) -> Iterator[Check]:
    """Whether each required package is there in a version that fits; `requirements` as in pyproject.toml."""
    for requirement in map(Requirement, requirements):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            here = version(requirement.name)
        except PackageNotFoundError:
            yield Check("packages", requirement.name, "missing", "not installed", REINSTALL)
            continue
        if requirement.specifier.contains(here, prereleases=True):
            yield Check("packages", requirement.name, "ok", here)
        else:
            wanted = f"{here}, but {requirement.specifier} is needed"
            yield Check("packages", requirement.name, "missing", wanted, REINSTALL)
    if importlib.util.find_spec("espeakng_loader"):
        yield Check("packages", "espeakng-loader", "ok", version("espeakng-loader"))
    else:
        found = "not installed; only `pdid demo` uses it"
        yield Check("packages", "espeakng-loader", "note", found, "pip install espeakng-loader")


def ffmpeg() -> Iterator[Check]:
    """The decoder (PyAV's ffmpeg) and the ffmpeg program that writes MP3 previews."""
    try:
        av = importlib.import_module("av")
        yield Check("decoding", "decoder", "ok", f"ffmpeg {av.ffmpeg_version_info} inside PyAV")
    except ImportError as error:
        mend = "pip install --force-reinstall av"
        yield Check("decoding", "decoder", "missing", f"PyAV can't be loaded: {error}", mend)
    program = shutil.which("ffmpeg")
    origin = "on PATH"
    if program is None:
        origin = "from the imageio-ffmpeg package"
        try:
            program = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
        except (ImportError, RuntimeError):
            mend = "pip install --force-reinstall imageio-ffmpeg"
            yield Check("decoding", "ffmpeg", "note", "not found; no MP3 previews without it", mend)
            return
    said = _ask(program, "-version")
    if said is None:
        found = f"{program} does not run; no MP3 previews without it"
        yield Check("decoding", "ffmpeg", "note", found, "reinstall ffmpeg")
    else:
        here = said.removeprefix("ffmpeg version ").split(" ")[0]
        yield Check("decoding", "ffmpeg", "ok", f"{here} {origin} ({program})")


def model_check(model: ModelInfo) -> Check:
    """A model that comes in a wheel must be there; the others are fetched and have a stand-in."""
    if model.path:
        return Check("models", model.name, "ok", f"{model.purpose}: {model.origin} ({model.path})")
    if not model.fetchable:
        package = "--no-deps Resemblyzer" if model.name == "Resemblyzer" else f"--force-reinstall {model.name}"
        mend = f"pip install -c constraints.txt {package}"
        return Check("models", model.name, "missing", f"{model.purpose}: not found", mend)
    gate = ", gated: accept its conditions there and set HF_TOKEN" if model.gated else ""
    found = f"{model.purpose}: not on this disk; would come from {model.source}{gate}"
    return Check("models", model.name, "note", found, f"pdid models fetch {model.name}")


def disk(corpus: Path) -> Check:
    """Free space where the corpus is, or will be. An hour of media makes 0.1 GB of clips."""
    place = corpus.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 1e9
    state: State = "missing" if free < FULL_GB else "note" if free < TIGHT_GB else "ok"
    mend = None if state == "ok" else "free some space, or give --corpus a folder on another disk"
    return Check("disk", "free space", state, f"{free:.1f} GB at {place}", mend)


def downloader(today: date) -> Check:
    """yt-dlp and its age: its version is the day it was made."""
    try:
        here = version("yt-dlp")
        age = (today - date(*map(int, here.split(".")[:3]))).days
    except PackageNotFoundError:
        return Check("web", "downloader", "missing", "yt-dlp is not installed", REINSTALL)
    except (TypeError, ValueError):  # a version of someone's own
        return Check("web", "downloader", "ok", f"yt-dlp {here}")
    found = f"yt-dlp {here}, {age} days old"
    if age <= OLD_DAYS:
        return Check("web", "downloader", "ok", found)
    return Check("web", "downloader", "note", f"{found}; sites change faster", "pip install -U yt-dlp yt-dlp-ejs")


def javascript() -> Check:
    """A JavaScript runtime, which downloading from YouTube needs and nothing else does; yt-dlp itself looks for it."""
    wanted = "only YouTube addresses need one"
    try:
        importlib.import_module("yt_dlp")  # fills the table
        kinds = importlib.import_module("yt_dlp.globals").supported_js_runtimes.value
    except ImportError as error:
        return Check("web", "JavaScript", "note", f"not looked for: yt-dlp can't be loaded ({error})", REINSTALL)
    old = []
    for name in RUNTIMES:
        info = kinds[name]().info if name in kinds else None
        if info and info.supported:
            place = shutil.which(info.path) or info.path
            return Check("web", "JavaScript", "ok", f"{info.name} {info.version} ({place})")
        if info:
            old.append(f"{info.name} {info.version}")
    found = f"too old for yt-dlp: {', '.join(old)}; {wanted}" if old else f"none found; {wanted}"
    return Check("web", "JavaScript", "note", found, "pip install deno, or install node 22 or newer")


def torch_and_gpu() -> Iterator[Check]:
    """Whether torch and torchaudio fit together (wheels of different builds fail at import), and the GPU."""
    try:
        torch = importlib.import_module("torch")
        importlib.import_module("torchaudio")
    except (ImportError, OSError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        mend = "pip install --force-reinstall -c constraints.txt torch torchaudio"
        yield Check("gpu", "torch", "missing", f"torch and torchaudio can't be loaded: {reason}", mend)
        return
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        yield Check("gpu", "GPU", "ok", f"{card.name}, {card.total_memory / 1e9:.0f} GB")
    else:
        yield Check("gpu", "GPU", "note", "none; everything runs on the processor, separation slowly")


def catalog_version(corpus: Path) -> Check:
    """The catalog in the corpus folder, if there is one."""
    from catalog.connection import CATALOG_NAME, connect

    path = corpus / CATALOG_NAME
    if not path.exists():
        return Check("catalog", "catalog", "note", f"none at {path} yet", "pdid ingest FOLDER, or: pdid demo")
    try:
        with connect(corpus, write=False) as connection:
            row = connection.execute("SELECT max(version) FROM base.migration").fetchone()
    except PdidError as error:
        return Check("catalog", "catalog", "missing", str(error), "pdid status")
    return Check("catalog", "catalog", "ok", f"version {row[0] if row else '?'} at {path}")


def _ask(program: str, flag: str) -> str | None:
    """First line a program prints about its version, or None where it does not run."""
    try:
        said = subprocess.run([program, flag], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    lines = said.strip().splitlines()
    return re.sub(r"\s+", " ", lines[0]) if lines else None
