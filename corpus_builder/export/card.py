"""The dataset card: README.md with the front matter that the Hugging Face hub reads, filled from the catalog."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corpus_builder.export.about import About, hub_licence
from corpus_builder.export.clips import COLUMNS
from corpus_builder.export.job import Job, write_lines

HUB_SIDES = {"dev": "validation"}
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
ANNOTATORS = {"human": "expert-generated", "imported": "found", "subtitle": "found", "model": "machine-generated"}


def write_card(job: Job, out: Path, files: Mapping[str, str]) -> None:
    """Write README.md. `files` is the glob of each side's files; none for an export without audio."""
    import yaml

    front = yaml.safe_dump(front_matter(job.about, files), allow_unicode=True, sort_keys=False, width=120)
    write_lines(out / "README.md", ["---", *front.splitlines(), "---", "", *body(job, bool(files))])


def front_matter(about: About, files: Mapping[str, str]) -> dict[str, Any]:
    """What the hub's search and viewer take from the card."""
    languages = sorted(name for name in about.languages if re.fullmatch(r"[a-z]{2,3}", name))
    origins = {ANNOTATORS[origin.split(":")[0]] for origin in about.text_origins if origin}
    matter: dict[str, Any] = {"pretty_name": about.name}
    if languages:
        matter["language"] = languages
    known = sorted({name for licence in about.licences if (name := hub_licence(licence))})
    other = [licence for licence in about.licences if licence and not hub_licence(licence)]
    if "" in about.licences or other or not known:
        matter["license"] = "other"
        matter["license_name"] = "see-below"
    else:
        matter["license"] = known[0] if len(known) == 1 else known
    if origins:
        matter["annotations_creators"] = sorted(origins)
    matter |= {
        "language_creators": ["found"],
        "source_datasets": ["original"],
        "task_categories": ["automatic-speech-recognition", "audio-classification"],
        "tags": ["accents", "speech", "pdid"],
        "size_categories": [next((name for most, name in SIZES if about.clips < most), "1M<n<10M")],
    }
    if files:
        matter["configs"] = [
            {
                "config_name": "default",
                "data_files": [{"split": HUB_SIDES.get(side, side), "path": glob} for side, glob in files.items()],
            }
        ]
    return matter


def body(job: Job, audio: bool) -> list[str]:
    """The card's text, line by line."""
    about = job.about
    lines = [
        f"# {about.name}",
        "",
        f"{about.clips} clips, {about.hours:.2f} hours, of {about.speakers} speakers in {about.sources} recordings"
        f" ({about.raw_hours:.2f} hours). Built and written by `pdid` on {job.created_at:%Y-%m-%d}.",
        "",
        "## Accents",
        "",
        *_table(
            ("accent", "side", "clips", "hours", "speakers"),
            [(p.accent or "(none)", p.side, p.clips, f"{p.hours:.3f}", p.speakers) for p in about.parts],
        ),
        "",
        f"Sides come from the split `{job.split}`." if job.split else "There is no split.",
        f"Accent labels come from: {_list(about.label_origins, 'labels') or 'nobody'}.",
        "",
        "## Texts",
        "",
        *_table(("origin", "clips"), [(origin or "(no text)", n) for origin, n in about.text_origins.items()]),
        "",
        "Texts are verbatim. `text_flags` says what speaks against a model's: `loop` (it repeated itself), `language`"
        " (another one was heard).",
        "",
        "## Licences",
        "",
        *_table(("licence", "clips"), [(name or "(not stated)", n) for name, n in about.licences.items()]),
        "",
        "Each clip has the licence of its recording. This card grants nothing beyond them.",
        "",
        "## How it was made",
        "",
        *processing(about),
        "",
        "Kept, as a share of the recordings' speech, by accent: a filter that throws out one accent more than"
        " another shows here.",
        "",
        *_table(
            ("accent", "kept"), [(accent or "(none)", f"{share:.1%}") for accent, share in about.kept_share.items()]
        ),
        "",
    ]
    if about.rejected:
        lines += [*_table(("left out as", "hours"), [(r, f"{h:.3f}") for r, h in about.rejected.items()]), ""]
    if audio:
        lines += ["## Columns", "", "| column | meaning |", "|---|---|"]
        lines += [f"| `{name}` | {meaning} |" for name, (_, meaning) in COLUMNS.items()]
        lines += ["", "Clips are WAV, 16 kHz, mono, 16 bit.", ""]
    return [*lines, "## People", "", *people(), ""]


def processing(about: About) -> list[str]:
    """What was done to the recordings, stage by stage, as a list."""
    words = {
        "decode": "decoded to 16 kHz mono",
        "music": "music found",
        "vad": "speech found",
        "separate": "voices separated from music, where it was needed",
        "diarize": "speakers told apart",
        "segment": "cut in pauses into clips of one speaker, 3 to 30 seconds",
        "loudness": "clips brought to one loudness (ITU-R BS.1770-4)",
        "quality": "clips scored (DNSMOS P.835, signal-to-noise ratio)",
    }
    done = []
    for stage, said in words.items():
        models = [model for model in about.stages.get(stage, ()) if model not in ("", "none")]
        if stage in about.stages and (models or stage != "separate"):
            done.append(f"- {said}" + (f": {', '.join(models)}" if models else ""))
    return done or ["- not stated"]


def people() -> list[str]:
    """What a user should know of the people heard."""
    return [
        "The clips are voices of people. A voice identifies a person, and so may an accent, a place or a name that",
        "is spoken. Speakers were told apart and given ids, not names, by their voices. Use this to make speech",
        "technology work for more people; do not use it to identify, imitate or profile anybody. Whoever wants their",
        "voice out of it should be heard: `source_id` and `start_s` say where each clip comes from.",
    ]


def _list(counts: Mapping[str, int], what: str) -> str:
    return ", ".join(f"{name} ({n} {what})" for name, n in counts.items())


def _table(header: tuple[str, ...], rows: list[tuple[object, ...]]) -> list[str]:
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(row) + " |" for row in cells]
