"""`pdid transcribe`: what is said in the clips, by a Whisper or from files."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from catalog.errors import UsageError
from corpus_builder.commands.options import corpus_option, json_option

if TYPE_CHECKING:
    from catalog.records import Transcript

EXAMPLES = """\b
Examples:
  pdid transcribe --model whisper-small --language fa
  pdid transcribe --import transcripts.csv --language fa
  pdid transcribe --import talk.fa.vtt
  pdid transcribe --import captions.srt --source ~/recordings/talk.mp4 --language fa

\b
A CSV or JSONL file has a text per row, and what it is about: a segment, or a stretch of a recording.
  source,start_s,end_s,text
  media/talk.mp4,12.5,16.2,سلام و خوش آمدید
Further columns it may have: segment_id (in place of the source), language, confidence (0 to 1), and origin
(human, imported, subtitle or model:NAME). Without times the text is that of the whole recording. Paths are
relative to the file.
"""


@click.command(epilog=EXAMPLES)
@click.option(
    "--model",
    metavar="ID_OR_DIR",
    help="Which Whisper: a folder, a name under $PDID_MODELS, a size, or a hub repository.  [default: whisper-small]",
)
@click.option("--language", metavar="L", help="The language that is spoken: fa, Persian, en, …")
@click.option(
    "--import",
    "file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Take the texts from a CSV, JSONL, SRT or VTT file instead.",
)
@click.option("--source", metavar="PATH", help="The recording that subtitles are about.  [default: by the file's name]")
@corpus_option
@json_option
@click.pass_context
def transcribe(
    ctx: click.Context,
    model: str | None,
    language: str | None,
    file: Path | None,
    source: str | None,
    corpus: Path,
    as_json: bool,
) -> None:
    """Write down what is said in the kept clips.

    With a model: every kept clip that this version of it has not transcribed. It can be stopped at any time and goes
    on from there. A text that repeats itself is flagged `loop`; one of a clip in which the model hears another
    language, `language`. With --import: the texts of a file, all of them or none. No transcript is ever overwritten:
    `segments.text` shows the best, by people before imported ones, subtitles and models.
    """
    if file is None:
        if source is not None:
            raise UsageError("--source goes with --import, for subtitles: a model transcribes all clips")
        ctx.exit(_listen(corpus, model, language, as_json))
    if model is not None:
        raise UsageError("--model and --import exclude each other: texts come from a model or from a file")
    _take(corpus, file, source, language, as_json)


def _listen(corpus: Path, model: str | None, language: str | None, as_json: bool) -> int:
    """Transcribe with a model; 1 where some clip could not be read."""
    from catalog.store import open_catalog
    from catalog.whisper import check_language, load_whisper
    from catalog.whisper_files import DEFAULT_WHISPER
    from corpus_builder.transcribe import transcribe_corpus

    with open_catalog(corpus) as catalog:
        kept = len(catalog.clips())
    whisper = load_whisper(model or DEFAULT_WHISPER)
    check_language(whisper, language)
    said: list[Transcript] = []
    failed = 0
    with _Display(f"{whisper.version} on {whisper.device}") as display:
        for heard in transcribe_corpus(corpus, whisper, language, display.watch):
            if heard.transcript is None:
                failed += 1
                click.echo(f"failed: {heard.error}", err=True)
                continue
            said.append(heard.transcript)
            if as_json:
                _print_json(heard.transcript, heard.clip.segment_id)
    flagged = Counter(flag for text in said for flag in text.flags)
    flags = "".join(f", {n} flagged {flag}" for flag, n in sorted(flagged.items()))
    if not said and not failed:
        click.echo(f"nothing to do: all {kept} clips have a transcript by {whisper.version}", err=True)
        return 0
    minutes = sum(text.end - text.start for text in said) / 16_000 / 60
    click.echo(
        f"{len(said)} clips transcribed ({minutes:.1f} min) by {whisper.version}{flags}; "
        f"{kept - len(said) - failed} had a transcript, {failed} failed",
        err=True,
    )
    return 1 if failed else 0


def _take(corpus: Path, file: Path, source: str | None, language: str | None, as_json: bool) -> None:
    """Import a file's transcripts."""
    from datetime import UTC, datetime

    from catalog.annotations import write_transcripts
    from catalog.store import open_catalog
    from catalog.texts import stretches, unsaid, with_text
    from corpus_builder.sources import address_of
    from corpus_builder.transcript_files import Recordings, named_segments, read_transcripts, to_transcripts

    if source is not None and Path(source).exists():
        source = address_of(Path(source))  # a path on the command line is not relative to the file
    texts = read_transcripts(file, source)
    with open_catalog(corpus) as catalog:  # reading makes no corpus where there is none
        recordings = Recordings(
            {found.source_id: found for found in catalog.sources()},
            {uri: address.source_id for uri, address in catalog.addresses().items()},
            stretches(catalog, named_segments(texts)),
        )
    found = to_transcripts(file, texts, recordings, datetime.now(UTC), language)
    with open_catalog(corpus, write=True) as catalog:
        new = unsaid(catalog, found)
        write_transcripts(catalog, new)
        clips, covered = with_text(catalog, sorted({text.source_id for text in found}))
    for text in new if as_json else ():
        _print_json(text)
    flagged = sum(bool(text.flags) for text in new)
    parts = [f"{len(new)} transcript{'' if len(new) == 1 else 's'} imported from {file}"]
    parts += [f"{flagged} of them flagged: in another script than their language's"] if flagged else []
    parts += [f"{len(found) - len(new)} were there already"] if len(new) < len(found) else []
    click.echo(
        f"{'; '.join(parts)}. "
        f"{covered} of the {clips} kept clips of these recordings have a text; those that fit no clip: "
        f"pdid sql @transcripts_without_a_piece --corpus {shlex.quote(str(corpus))}",
        err=True,
    )


def _print_json(text: Transcript, segment_id: str | None = None) -> None:
    line = {
        **({"segment_id": segment_id} if segment_id else {}),
        "source_id": text.source_id,
        "start_s": round(text.start / 16_000, 3),
        "end_s": round(text.end / 16_000, 3),
        "text": text.text,
        "language": text.language,
        "origin": text.origin,
        "confidence": text.confidence,
        "flags": list(text.flags),
    }
    click.echo(json.dumps(line, ensure_ascii=False))


class _Display:
    """Progress on standard error: on a terminal a bar with the time left, else a line a minute."""

    def __init__(self, what: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.console = Console(stderr=True, highlight=False)
        self.start = self.told = time.monotonic()
        self.bar = Progress(
            TextColumn(what, markup=False),
            BarColumn(),
            TextColumn("{task.fields[now]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not sys.stderr.isatty(),
        )
        self.task = self.bar.add_task("", total=None, now="")

    def __enter__(self) -> _Display:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def watch(self, done_s: float, total_s: float) -> None:
        """So many seconds of sound are done, of so many."""
        now = time.monotonic()
        rate = done_s / max(1e-9, now - self.start)
        words = f"{done_s / 3600:.2f} of {total_s / 3600:.2f} h, {rate:.1f} times as fast as it is spoken"
        self.bar.update(self.task, completed=done_s, total=total_s, now=words)
        if self.bar.disable and now - self.told > 60 and rate:
            self.told = now
            left = (total_s - done_s) / rate
            self.console.print(f"{words}, {left / 60:.0f} min left", markup=False, soft_wrap=True)
