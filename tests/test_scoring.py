"""Error counts: jiwer's, summed over words; groups of accents; text forms."""

from __future__ import annotations

from pathlib import Path

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_experiments.datasets import Utterance
from asr_experiments.scoring import (
    JOINED,
    NORMALISED,
    RAW,
    AlignedWord,
    Errors,
    align,
    count_errors,
    groups,
    score,
    text_forms,
    total,
)
from catalog.errors import PdidError

WORDS = st.lists(st.sampled_from(["a", "b", "ab", "ba", "سلام", "é"]), max_size=8).map(" ".join)
PAIRS = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6)


def utterance(name: str, text: str, accent: str = "Yazdi", speaker: str = "s1") -> Utterance:
    return Utterance(name, Path(f"{name}.wav"), text, accent, speaker, speaker, "test", 16_000)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c", "a b c", Errors(0, 0, 0, 3, 0, 5)),
        ("a b c", "a x c", Errors(1, 0, 0, 3, 1, 5)),
        ("a b c", "a c", Errors(0, 1, 0, 3, 2, 5)),
        ("a c", "a b c", Errors(0, 0, 1, 2, 2, 3)),
        ("a b c", "", Errors(0, 3, 0, 3, 5, 5)),
        ("thank you", "thank you " * 4, Errors(0, 0, 6, 2, 30, 9)),  # a loop
        ("  a\n b ", "a b", Errors(0, 0, 0, 2, 0, 3)),
        ("", "a b", Errors(0, 0, 2, 0, 3, 0, 1)),
        ("", "", Errors(0, 0, 0, 0, 0, 0, 1)),
    ],
)
def test_errors_of_one_clip(reference: str, hypothesis: str, expected: Errors) -> None:
    assert count_errors([reference], [hypothesis]) == [expected]


@given(PAIRS)
def test_sums_are_jiwers(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = [reference for reference, _ in pairs], [hypothesis for _, hypothesis in pairs]
    summed = total(count_errors(references, hypotheses))
    jiwers = jiwer.process_words(references, hypotheses)
    assert (summed.substitutions, summed.deletions, summed.insertions) == (
        jiwers.substitutions,
        jiwers.deletions,
        jiwers.insertions,
    )
    assert summed.words == sum(len(reference.split()) for reference in references)
    assert summed.empty == references.count("")
    if summed.words:
        assert summed.wer == pytest.approx(jiwer.wer(references, hypotheses), abs=1e-12)
        assert summed.cer == pytest.approx(jiwer.cer(references, hypotheses), abs=1e-12)
    else:
        assert summed.wer is None
        assert summed.cer is None


@given(WORDS, WORDS)
def test_an_alignment_spells_both_texts_and_counts_as_the_errors_do(reference: str, hypothesis: str) -> None:
    steps = align(reference, hypothesis)
    assert [step.reference for step in steps if step.reference is not None] == reference.split()
    assert [step.hypothesis for step in steps if step.hypothesis is not None] == hypothesis.split()
    for step in steps:
        assert (step.kind == "correct") == (step.reference == step.hypothesis)
    (counted,) = count_errors([reference], [hypothesis])
    kinds = [step.kind for step in steps]
    assert kinds.count("substituted") == counted.substitutions
    assert kinds.count("deleted") == counted.deletions
    assert kinds.count("inserted") == counted.insertions


def test_an_alignment() -> None:
    assert align("a b c d", "a x c d e") == [
        AlignedWord("correct", "a", "a"),
        AlignedWord("substituted", "b", "x"),
        AlignedWord("correct", "c", "c"),
        AlignedWord("correct", "d", "d"),
        AlignedWord("inserted", None, "e"),
    ]


def test_nothing_to_count() -> None:
    assert count_errors([], []) == []
    assert total([]) == Errors()
    assert Errors().wer is None


def test_a_rate_is_summed_errors_over_summed_words_and_may_pass_one() -> None:
    summed = total(count_errors(["a", "a b c d e f g h i"], ["a b c", "a b c d e f g h i"]))
    assert summed.wer == 2 / 10  # not the mean of 2 and 0
    assert total(count_errors(["a"], ["b c d"])).wer == 3.0


def test_persian_is_scored_raw_normalised_and_joined() -> None:
    clip = utterance("1", "كتاب‌ها را می‌خوانم.")
    (scored,) = score([clip], {"1": "کتاب ها را میخوانم"}, "fa")
    assert set(scored.errors) == {RAW, NORMALISED, JOINED}
    assert scored.errors[RAW].words == 3
    assert scored.errors[RAW].errors == 3  # کتاب for كتاب‌ها, ها put in, میخوانم for می‌خوانم.
    assert scored.errors[NORMALISED].words == 5
    assert scored.errors[NORMALISED].errors == 2  # می خوانم is two words, میخوانم one
    assert scored.errors[JOINED].words == 3
    assert scored.errors[JOINED].errors == 2  # کتابها is one word, کتاب ها two
    assert scored.reference == "كتاب‌ها را می‌خوانم."  # verbatim


def test_other_languages_have_two_forms() -> None:
    assert set(text_forms("en")) == {RAW, NORMALISED}
    (scored,) = score([utterance("1", "The colour, two")], {"1": "the color 2"}, "en")
    assert scored.errors[RAW].errors == 3
    assert scored.errors[NORMALISED] == Errors(words=3, characters=11)


def test_a_reference_that_normalises_to_nothing_is_recorded() -> None:
    """Whisper's normaliser takes hesitations out: errors there are insertions over no words."""
    (scored,) = score([utterance("1", "Um.")], {"1": "thank you"}, "en")
    assert scored.errors[NORMALISED] == Errors(insertions=2, char_errors=9, empty=1)
    assert scored.errors[NORMALISED].wer is None
    assert scored.errors[RAW].words == 1


def test_a_missing_hypothesis_is_not_an_empty_one() -> None:
    clips = [utterance("1", "a"), utterance("2", "b")]
    with pytest.raises(PdidError, match="1 of 2 clips have no hypothesis, 2 the first"):
        score(clips, {"1": "a"}, "en")
    assert score(clips, {"1": "a", "2": ""}, "en")[1].errors[RAW].deletions == 1


def test_groups() -> None:
    clips = [
        utterance("1", "a b", "Tehrani", "t1"),
        utterance("2", "a b", "Yazdi", "y1"),
        utterance("3", "a b", "Yazdi", "y2"),
        utterance("4", "a b", "Tajiki", "j1"),
        utterance("5", "a b", "Lori", "l1"),
    ]
    said = {"1": "a b", "2": "a", "3": "a b", "4": "", "5": "a b"}
    found = groups(score(clips, said, "fa"), {"Tehrani", "Yazdi", "Lori"}, "Tehrani")
    table = {(group.kind, group.name): group for group in found}
    assert list(table) == [
        ("all", "all"),
        ("standard", "standard"),
        ("seen", "seen accents"),
        ("unseen", "unseen accents"),
        ("accent", "Lori"),
        ("accent", "Tajiki"),
        ("accent", "Tehrani"),
        ("accent", "Yazdi"),
    ]
    rates = {key: group.total(NORMALISED).wer for key, group in table.items()}
    assert rates["all", "all"] == 3 / 10
    assert rates["standard", "standard"] == 0
    assert rates["seen", "seen accents"] == 1 / 6
    assert rates["unseen", "unseen accents"] == 1
    assert table["seen", "seen accents"].accents == ("Lori", "Yazdi")
    assert table["accent", "Yazdi"].n_speakers == 2
    assert table["accent", "Tajiki"].n_speakers == 1


def test_groups_without_clips_are_left_out() -> None:
    scores = score([utterance("1", "a")], {"1": "a"}, "fa")
    assert [group.kind for group in groups(scores, {"Yazdi"}, None)] == ["all", "seen", "accent"]
    assert [group.kind for group in groups(scores, (), "Tehrani")] == ["all", "unseen", "accent"]
    assert groups([], (), None) == []
