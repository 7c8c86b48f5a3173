"""What a model got wrong: errors per clip, and word and character error rates of groups of accents.

A rate is summed errors over summed reference words (characters), never a mean of rates. Substitutions, deletions
and insertions stay apart: Whisper's loops show as insertions and push the rate over 1. Rates are shares, not per cent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from asr_experiments.datasets import Utterance
from catalog.errors import PdidError
from catalog.text import Normaliser, is_persian, normaliser

if TYPE_CHECKING:
    from jiwer import AlignmentChunk

RAW, NORMALISED, JOINED = "raw", "normalised", "normalised, joined"
"""The texts that are scored: as written; normalised; and for Persian normalised with the zero-width non-joiner
taken out instead of made a space."""

Kind = Literal["correct", "substituted", "deleted", "inserted"]


@dataclass(frozen=True, slots=True)
class AlignedWord:
    """One step of an alignment: a reference word, a hypothesis word, or one of each."""

    kind: Kind
    reference: str | None = None
    hypothesis: str | None = None


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of one hypothesis, or summed over many. An empty reference has insertions only, and counts in `empty`."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    words: int = 0  # of the reference
    char_errors: int = 0
    characters: int = 0  # of the reference, spaces between words included
    empty: int = 0  # references without a word

    def __add__(self, other: Errors) -> Errors:
        return Errors(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.words + other.words,
            self.char_errors + other.char_errors,
            self.characters + other.characters,
            self.empty + other.empty,
        )

    @property
    def errors(self) -> int:
        """Wrong words: substituted, left out or added."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer(self) -> float | None:
        """Word error rate; None where the references have no word."""
        return self.errors / self.words if self.words else None

    @property
    def cer(self) -> float | None:
        """Character error rate; None where the references have no character."""
        return self.char_errors / self.characters if self.characters else None


@dataclass(frozen=True, slots=True)
class Score:
    """What a model said to one clip, and its errors by text form (RAW, NORMALISED, JOINED)."""

    segment_id: str
    accent: str
    speaker: str
    reference: str
    hypothesis: str
    errors: dict[str, Errors]


@dataclass(frozen=True, slots=True)
class Group:
    """A group of clips that gets a line in the table.

    `kind` is all, standard, seen (accents in training), unseen (accents that are not) or accent (each by itself);
    for accent, `name` is the accent's.
    """

    kind: Literal["all", "standard", "seen", "unseen", "accent"]
    name: str
    accents: tuple[str, ...]
    scores: tuple[Score, ...]

    def total(self, form: str) -> Errors:
        """The group's summed errors in a text form."""
        return total(score.errors[form] for score in self.scores)

    @property
    def n_speakers(self) -> int:
        return len({score.speaker for score in self.scores})


def text_forms(language: str | None) -> dict[str, Normaliser]:
    """Name -> function for every text form that a language is scored in."""
    forms = {RAW: _single_spaced, NORMALISED: normaliser(language)}
    return forms | {JOINED: normaliser(language, "nothing")} if is_persian(language) else forms


def score(utterances: Sequence[Utterance], hypotheses: Mapping[str, str], language: str | None) -> list[Score]:
    """Score each utterance's hypothesis (by segment_id) in every text form of the language, in order.

    Raises PdidError if an utterance has no hypothesis: a missing one is not an empty one.
    """
    missing = [utterance.segment_id for utterance in utterances if utterance.segment_id not in hypotheses]
    if missing:
        raise PdidError(f"{len(missing)} of {len(utterances)} clips have no hypothesis, {missing[0]} the first: rerun")
    references = [utterance.text for utterance in utterances]
    said = [hypotheses[utterance.segment_id] for utterance in utterances]
    by_form = {
        form: count_errors([*map(function, references)], [*map(function, said)])
        for form, function in text_forms(language).items()
    }
    return [
        Score(
            utterance.segment_id,
            utterance.accent,
            utterance.speaker,
            utterance.text,
            hypothesis,
            {form: counted[i] for form, counted in by_form.items()},
        )
        for i, (utterance, hypothesis) in enumerate(zip(utterances, said, strict=True))
    ]


def count_errors(references: Sequence[str], hypotheses: Sequence[str]) -> list[Errors]:
    """Errors of each hypothesis against its reference: words and characters, by jiwer's Levenshtein alignment."""
    import jiwer

    if not references:
        return []
    references, hypotheses = [*map(_single_spaced, references)], [*map(_single_spaced, hypotheses)]
    words = jiwer.process_words(references, hypotheses)
    characters = jiwer.process_characters(references, hypotheses)
    found = []
    for reference, in_words, in_characters in zip(references, words.alignments, characters.alignments, strict=True):
        substitutions, deletions, insertions = _counts(in_words)
        n_words = len(reference.split())
        char_errors, n_characters = sum(_counts(in_characters)), len(reference)
        found.append(Errors(substitutions, deletions, insertions, n_words, char_errors, n_characters, int(not n_words)))
    return found


def align(reference: str, hypothesis: str) -> list[AlignedWord]:
    """The words of two texts side by side, by jiwer's Levenshtein alignment. Normalise first."""
    import jiwer

    ref, hyp = reference.split(), hypothesis.split()
    steps: list[AlignedWord] = []
    for chunk in jiwer.process_words(" ".join(ref), " ".join(hyp)).alignments[0]:
        here = ref[chunk.ref_start_idx : chunk.ref_end_idx]
        there = hyp[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "insert":
            steps += [AlignedWord("inserted", None, word) for word in there]
        elif chunk.type == "delete":
            steps += [AlignedWord("deleted", word, None) for word in here]
        else:
            kind: Kind = "correct" if chunk.type == "equal" else "substituted"
            steps += [AlignedWord(kind, a, b) for a, b in zip(here, there, strict=True)]
    return steps


def total(errors: Iterable[Errors]) -> Errors:
    """The sum."""
    return sum(errors, Errors())


def groups(scores: Sequence[Score], trained_on: Collection[str], standard: str | None) -> list[Group]:
    """The table's groups: all, the standard accent, seen and unseen accents, then each accent by itself.

    `trained_on` are the accents of the training clips. The standard accent is neither seen nor unseen. A group
    without clips is left out.
    """
    accents = sorted({score.accent for score in scores})
    others = [accent for accent in accents if accent != standard]
    seen = tuple(accent for accent in others if accent in trained_on)
    unseen = tuple(accent for accent in others if accent not in trained_on)
    found = [
        _group("all", "all", tuple(accents), scores),
        _group("standard", "standard", (standard,) if standard is not None else (), scores),
        _group("seen", "seen accents", seen, scores),
        _group("unseen", "unseen accents", unseen, scores),
        *(_group("accent", accent, (accent,), scores) for accent in accents),
    ]
    return [group for group in found if group.scores]


def _group(
    kind: Literal["all", "standard", "seen", "unseen", "accent"],
    name: str,
    accents: tuple[str, ...],
    scores: Sequence[Score],
) -> Group:
    return Group(kind, name, accents, tuple(score for score in scores if score.accent in accents))


def _counts(alignment: Iterable[AlignmentChunk]) -> tuple[int, int, int]:
    """(substitutions, deletions, insertions) of one of jiwer's alignments."""
    sizes = {"substitute": 0, "delete": 0, "insert": 0, "equal": 0}
    for chunk in alignment:
        # one of the two is 0 for what was put in or left out, and they are equal for the rest
        sizes[chunk.type] += max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
    return sizes["substitute"], sizes["delete"], sizes["insert"]


def _single_spaced(text: str) -> str:
    return " ".join(text.split())
