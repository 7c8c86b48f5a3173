"""The paper's results, for a report to put beside its own: Sameti, Harfi Moridani, Zarean, Sameti, "Accent-Invariant
ASR via Saliency-Driven Spectrogram Masking", arXiv 2510.09528. Per cent, as printed."""

from __future__ import annotations

from dataclasses import dataclass

PAPER = "arXiv 2510.09528"


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """A line of a table: (WER, CER) in per cent by column; `arm` is ours where the paper's model is one of them."""

    model: str
    arm: str | None
    rates: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A table of the paper; `columns` name the test sets, `groups` what ours is nearest to each."""

    title: str
    source: str
    language: str
    columns: tuple[str, ...]
    groups: tuple[str, ...]  # a Group.kind of asr_experiments.scoring
    rows: tuple[PublishedRow, ...]


ENGLISH = PublishedTable(
    title="English, Whisper tiny",
    source=f"{PAPER}, results on English",
    language="en",
    columns=("LibriSpeech", "Accented (EdAcc)", "Unseen", "CommonAccent"),
    groups=("standard", "seen", "unseen", "unseen"),
    rows=(
        PublishedRow("pre-trained", "zero-shot", ((8.0, 3.2), (42.0, 37.7), (34.7, 26.7), (62.2, 38.5))),
        PublishedRow("fine-tuned on LibriSpeech", "finetune", ((7.0, 2.7), (26.1, 16.0), (29.3, 19.4), (36.3, 18.5))),
        PublishedRow("+ SpecAugment", "specaugment", ((7.3, 2.9), (27.0, 17.8), (30.1, 20.3), (38.3, 21.6))),
        PublishedRow("+ saliency masks", "saliency", ((6.8, 2.7), (23.4, 15.1), (26.7, 17.9), (34.8, 18.2))),
    ),
)

PERSIAN_BASE = PublishedTable(
    title="Persian, Whisper base",
    source=f"{PAPER}, results on Persian",
    language="fa",
    columns=("Standard (Common Voice)", "Accented (PDID)"),
    groups=("standard", "seen"),
    rows=(
        PublishedRow("pre-trained", "zero-shot", ((186.4, 209.4), (128.6, 93.6))),
        PublishedRow("fine-tuned on Common Voice", "finetune", ((62.2, 25.4), (97.2, 61.7))),
        PublishedRow("+ SpecAugment", "specaugment", ((61.5, 23.9), (92.8, 51.6))),
        PublishedRow("+ saliency++ masks", "saliency++", ((62.4, 22.1), (90.3, 41.5))),
        PublishedRow("+ saliency masks", "saliency", ((61.9, 21.1), (88.8, 40.6))),
    ),
)

PERSIAN_MEDIUM = PublishedTable(
    title="Persian, Whisper medium",
    source=f"{PAPER}, results on Persian",
    language="fa",
    columns=("Standard (Common Voice)", "Accented (PDID)"),
    groups=("standard", "seen"),
    rows=(
        PublishedRow("pre-trained", "zero-shot", ((68.3, 32.1), (129.5, 89.1))),
        PublishedRow("fine-tuned on Common Voice", "finetune", ((30.7, 8.9), (70.4, 42.5))),
        PublishedRow("+ saliency masks", "saliency", ((31.1, 9.9), (67.5, 36.5))),
    ),
)

TABLES = (ENGLISH, PERSIAN_BASE, PERSIAN_MEDIUM)

CAVEATS = (
    "“Up to 14 %” is 13.3 % relative at best: WER 27.0 to 23.4, saliency against SpecAugment, English, accented.",
    "On standard Persian, masking makes the medium model slightly worse: WER 30.7 to 31.1.",
    "There is no SpecAugment row for the medium model.",
    "English “standard” speech comes from another corpus than the accents, which a classifier can exploit:"
    " it may tell the corpora apart, not the accents.",
    "The tables give no intervals, and their test sets are not the ones here: compare directions, not figures.",
)
"""How to read them."""
