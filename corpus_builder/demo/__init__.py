"""Material for a first corpus: a real conversation, and programmes pdid says and plays itself."""

from __future__ import annotations

import csv
import importlib.util
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from catalog.errors import PdidError, UsageError

Say = Callable[[str], None]

COLUMNS = ("source", "accent", "speaker", "language", "licence", "title")
CONVERSATION = ("conversation.wav", "American", "", "en", "MIT", "Two people on the telephone")


def write_media(corpus: Path, say: Say) -> Path:
    """Write the demo's media and their sources file into the corpus folder; what is there already is kept.

    Returns the path of the sources file. `say` gets a line per file. Raises UsageError if the folder
    holds a corpus of the user's own, and PdidError if there is nothing to make a demo of.
    """
    folder = corpus / "media" / "demo"
    if (corpus / "catalog.duckdb").exists() and not folder.exists():
        raise UsageError(f"{corpus} is a corpus of your own; give the demo another folder, e.g. --corpus demo-corpus")
    folder.mkdir(parents=True, exist_ok=True)
    rows = _conversation(folder, say) + _programmes(folder, say)
    if not rows:
        raise PdidError("there is nothing to make a demo of: reinstall pdid with the extra `demo`")
    _write_csv(folder / "sources.csv", COLUMNS, rows)
    return folder / "sources.csv"


def _write_csv(path: Path, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    beside = path.with_name(f".{path.name}.part")
    with beside.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([header, *rows])
    os.replace(beside, path)


def write_transcripts(corpus: Path, say: Say) -> Path | None:
    """Write what the demo's programmes say, turn by turn, as a file for `pdid transcribe --import`.

    Returns its path beside the media, or None where there are no programmes. The programmes are said again, which
    takes seconds; the turns are the same but for milliseconds.
    """
    from corpus_builder.demo import programme

    folder = corpus / "media" / "demo"
    target = folder / "transcripts.csv"
    scripts = [script for script in programme.scripts() if (folder / f"{script.name}.m4a").exists()]
    if not scripts or target.exists():
        return target if scripts else None
    say("writing down what the programmes say")
    rows = [
        (f"{script.name}.m4a", f"{start / programme.RATE:.3f}", f"{end / programme.RATE:.3f}", script.language, line)
        for script in scripts
        for (start, end, _), line in zip(programme.mix(script).turns, script.lines, strict=True)
    ]
    _write_csv(target, ("source", "start_s", "end_s", "language", "text"), rows)
    return target


def conversation() -> Path | None:
    """The recording that ships inside pyannote.audio's wheel, found without importing that package (seconds)."""
    spec = importlib.util.find_spec("pyannote.audio")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder) / "sample" / "sample.wav"
        if path.is_file():
            return path
    return None


def _conversation(folder: Path, say: Say) -> list[tuple[str, ...]]:
    shipped = conversation()
    if shipped is None:
        say("no conversation: this version of pyannote.audio ships without its sample recording")
        return []
    target = folder / CONVERSATION[0]
    if not target.exists():
        say(f"taking {target.name}: {CONVERSATION[-1]}, from the pyannote.audio package")
        beside = folder / f".{target.name}.part"
        shutil.copyfile(shipped, beside)
        os.replace(beside, target)
    return [CONVERSATION]


def _programmes(folder: Path, say: Say) -> list[tuple[str, ...]]:
    from corpus_builder.demo import programme, speech  # numpy and PyAV, which `pdid --help` does without

    scripts = [(script, folder / f"{script.name}.m4a") for script in programme.scripts()]
    missing = [(script, path) for script, path in scripts if not path.exists()]
    if missing and not speech.available():
        say("no programmes: text to speech needs the extra `demo`; install it with: pip install espeakng-loader")
    else:
        for script, path in missing:
            say(f"mixing {path.name}: {script.title} ({script.accent})")
            programme.write(path, script)
    return [
        (path.name, script.accent, "", script.language, "CC0-1.0", script.title)
        for script, path in scripts
        if path.exists()
    ]
