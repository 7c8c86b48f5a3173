"""Intervals that hold the truth as often as they say, paired differences, Holm, and MAPSSWE as NIST's SCTK has it."""

from __future__ import annotations

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from asr_experiments import significance
from asr_experiments.scoring import RAW, AlignedWord, Errors, Score, align
from asr_experiments.significance import Sample, difference, holm, interval, mapsswe, sample, segments
from benchmarks.coverage import coverage
from catalog.errors import PdidError


def arm(errors: list[int] | list[list[int]], words: list[int]) -> Sample:
    table = np.array(errors, np.int64)
    table = table if table.ndim == 2 else table[None]
    return Sample(tuple(f"s{i}" for i in range(len(words))), table, np.array(words))


def scored(name: str, speaker: str, errors: int, words: int) -> Score:
    return Score(name, "Yazdi", speaker, "", "", {RAW: Errors(errors, words=words)})


# --- the bootstrap


def test_a_sample_sums_by_speaker_and_keeps_seeds_apart() -> None:
    first = [scored("1", "b", 2, 10), scored("2", "a", 1, 5), scored("3", "b", 0, 20)]
    second = [scored("3", "b", 4, 20), scored("1", "b", 3, 10), scored("2", "a", 5, 5)]
    found = sample([first, second], RAW)
    assert found.speakers == ("a", "b")
    assert found.words.tolist() == [5, 30]
    assert found.errors.tolist() == [[1, 2], [5, 7]]
    assert found.rate == pytest.approx((3 / 35 + 12 / 35) / 2)
    with pytest.raises(PdidError, match="different clips"):
        sample([first, second[:2]], RAW)


def test_the_interval_is_students_over_speakers_of_equal_size() -> None:
    """With equal words per speaker the rate is a mean, whose t interval has a closed form."""
    errors = [10, 14, 9, 22, 17, 12, 15, 11]
    found = interval(arm(errors, [100] * 8), draws=200_000)
    low, high = stats.t.interval(0.95, 7, np.mean(errors) / 100, stats.sem(np.array(errors) / 100))
    assert found.estimate == pytest.approx(np.mean(errors) / 100)
    assert found.low == pytest.approx(low, abs=5e-4)
    assert found.high == pytest.approx(high, abs=5e-4)
    assert (found.n_speakers, found.n_seeds, found.why) == (8, 1, None)


def test_clips_of_one_speaker_are_drawn_together() -> None:
    """Four speakers say no more for being recorded a hundred times, if each time is alike."""
    once = interval(arm([1, 3, 2, 5], [10, 10, 10, 10]))
    often = interval(arm([100, 300, 200, 500], [1000, 1000, 1000, 1000]))
    assert once == often


def test_a_paired_difference_is_closer_than_two_intervals() -> None:
    """Speakers differ widely, and the first arm is a little better on every one of them."""
    words = [200] * 12
    second = [20, 90, 45, 70, 30, 110, 60, 25, 80, 55, 100, 40]
    first = [n - 5 - i % 3 for i, n in enumerate(second)]
    found = difference(arm(first, words), arm(second, words))
    assert found.low is not None
    assert found.high is not None
    assert found.estimate == pytest.approx(-0.03)
    assert found.low < -0.03 < found.high < 0
    assert found.p_better == 1.0
    assert found.p_value is not None
    assert found.p_value < 0.001
    alone = interval(arm(second, words))
    assert alone.low is not None
    assert alone.high is not None
    assert found.high - found.low < (alone.high - alone.low) / 10


def test_a_difference_turns_round_with_the_arms() -> None:
    words = [50, 80, 120, 60, 90]
    a, b = arm([10, 20, 30, 10, 25], words), arm([12, 18, 33, 15, 20], words)
    there, back = difference(a, b), difference(b, a)
    assert (back.estimate, back.low, back.high) == pytest.approx((-there.estimate, -there.high, -there.low))  # type: ignore[operator]
    assert back.p_better == pytest.approx(1 - there.p_better)  # type: ignore[operator]
    assert back.p_value == pytest.approx(there.p_value)


def test_the_p_value_and_the_interval_agree() -> None:
    rng = np.random.default_rng(3)
    verdicts = set()
    for number in range(60):
        words = rng.integers(50, 400, 10)
        b = rng.binomial(words, rng.uniform(0.2, 0.5, 10))
        a = rng.binomial(words, np.clip(b / words - rng.uniform(-0.02, 0.1, 10), 0, 1))
        found = difference(arm([a.tolist()], words.tolist()), arm([b.tolist()], words.tolist()), draws=500, seed=number)
        assert found.low is not None
        assert found.high is not None
        assert found.p_value is not None
        assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)
        verdicts.add(found.p_value < 0.05)
    assert verdicts == {True, False}


def test_the_same_seed_gives_the_same_draws() -> None:
    one = arm([3, 9, 4, 7], [40, 60, 50, 70])
    assert interval(one, seed=1) == interval(one, seed=1)
    assert interval(one, seed=1) != interval(one, seed=2)


def test_blocks_of_draws_change_nothing_but_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    one = arm([3, 9, 4, 7], [40, 60, 50, 70])
    whole = interval(one, draws=2000)
    monkeypatch.setattr(significance, "_CELLS", 4 * 300)
    blocks = interval(one, draws=2000)
    assert (blocks.low, blocks.high) == pytest.approx((whole.low, whole.high), rel=0.05)


def test_seeds_are_an_outer_level() -> None:
    """Seeds that differ widen the interval; seeds that agree leave it as one seed has it."""
    words = [100] * 20
    base = [20 + i % 5 for i in range(20)]
    one = interval(arm(base, words))
    same = interval(arm([base] * 3, words))
    apart = interval(arm([[n + shift for n in base] for shift in (-6, 0, 6)], words))
    for found in (one, same, apart):
        assert found.estimate == pytest.approx(0.22)
        assert found.low is not None
        assert found.high is not None
    width = [found.high - found.low for found in (one, same, apart)]  # type: ignore[operator]
    assert width[1] == pytest.approx(width[0], rel=0.05)
    # the seeds' standard error is 0.06 / √3
    assert width[2] == pytest.approx(2 * stats.t.ppf(0.975, 19) * 0.06 / math.sqrt(3), rel=0.1)
    assert (one.n_seeds, apart.n_seeds) == (1, 3)


def test_seeds_are_paired_between_arms() -> None:
    words = [100] * 10
    base = [20 + i for i in range(10)]
    shifted = [[n + shift for n in base] for shift in (0, 30, 10)]
    better = [[n - 2 - i % 2 for i, n in enumerate(row)] for row in shifted]
    found = difference(arm(better, words), arm(shifted, words))
    assert found.estimate == pytest.approx(-0.025)
    assert found.high is not None
    assert found.high < -0.02
    assert found.n_seeds == 3


def test_zero_shot_has_one_run_and_is_compared_with_every_seed() -> None:
    words = [100] * 10
    seeds = arm([[10 + i for i in range(10)], [12 + i for i in range(10)], [14 + i for i in range(10)]], words)
    zero_shot = arm([30 + i % 7 for i in range(10)], words)
    found = difference(seeds, zero_shot)
    assert found.estimate == pytest.approx(0.165 - np.mean([30 + i % 7 for i in range(10)]) / 100)
    assert found.n_seeds == 3
    assert found.p_better == 1.0
    with pytest.raises(PdidError, match="3 and 2 seeds"):
        difference(seeds, replace(zero_shot, errors=np.repeat(zero_shot.errors, 2, axis=0)))


def test_arms_on_different_clips_are_not_compared() -> None:
    with pytest.raises(PdidError, match="different clips"):
        difference(arm([1, 2], [10, 10]), arm([1, 2], [10, 11]))
    with pytest.raises(PdidError, match="different clips"):
        difference(arm([1, 2], [10, 10]), replace(arm([1, 2], [10, 10]), speakers=("x", "y")))


def test_one_speaker_gives_no_interval_and_says_why() -> None:
    one = interval(arm([5], [20]))
    assert (one.estimate, one.low, one.high, one.why) == (0.25, None, None, significance.ONE_SPEAKER)
    pair = difference(arm([[5], [6]], [20]), arm([[8], [9]], [20]))
    assert pair.estimate == pytest.approx(-0.15)
    assert (pair.low, pair.high, pair.p_better, pair.p_value, pair.why) == (
        None,
        None,
        None,
        None,
        significance.ONE_SPEAKER,
    )
    # a second speaker without a word to get right is none
    assert interval(arm([5, 0], [20, 0])).why == significance.ONE_SPEAKER


def test_two_speakers_give_an_interval_as_wide_as_it_must_be() -> None:
    found = interval(arm([20, 30], [100, 100]))
    assert found.low == 0.0
    assert found.high == pytest.approx(0.25 + 12.706 * 0.05, abs=0.02)


def test_references_without_words_have_no_rate() -> None:
    none = interval(arm([2, 3], [0, 0]))
    assert (none.estimate, none.low, none.why) == (None, None, significance.NO_WORDS)
    pair = difference(arm([2, 3], [0, 0]), arm([1, 1], [0, 0]))
    assert (pair.estimate, pair.p_value, pair.why) == (None, None, significance.NO_WORDS)
    some = interval(arm([2, 3, 4], [0, 10, 20]))  # draws of the first alone have no rate and are passed over
    assert some.estimate == 9 / 30
    assert some.low is not None


def test_speakers_that_are_all_alike_give_no_interval() -> None:
    assert interval(arm([0, 0, 0], [10, 20, 30])).why == significance.NO_SPREAD
    assert difference(arm([1, 1], [10, 10]), arm([2, 2], [10, 10])).why == significance.NO_SPREAD
    same = difference(arm([1, 2], [10, 10]), arm([1, 2], [10, 10]))
    assert (same.estimate, same.low, same.high, same.p_better, same.p_value) == (0, 0, 0, 0.5, 1.0)


@pytest.mark.parametrize(("n_speakers", "n_seeds"), [(3, 1), (20, 1), (20, 3)])
def test_intervals_hold_a_known_difference_as_often_as_they_say(n_speakers: int, n_seeds: int) -> None:
    """benchmarks/coverage.py in small: 600 sets, so ± 3 points allow for chance (3.4 sigma at 95 %)."""
    found = coverage(n_speakers, n_seeds, sets=600, draws=300)
    assert 0.92 <= found.difference <= 0.985
    assert found.false_alarms <= 0.085


# --- Holm


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.4]) == [0.8, None, 0.8]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_never_lowers(p_values: list[float]) -> None:
    corrected = holm(p_values)
    for p, c in zip(p_values, corrected, strict=True):
        assert c is not None
        assert p <= c <= min(1.0, p * len(p_values)) or math.isclose(c, p)  # Bonferroni is the worst
    assert sorted(corrected) == [
        corrected[i] for i in sorted(range(len(p_values)), key=lambda i: (p_values[i], corrected[i]))
    ]


# --- MAPSSWE

# The alignments of SCTK's own test of it, src/sclite/testdata/file1.sgml and file2.sgml (NIST, public domain): the
# kind, the reference word and the hypothesis word. Expected is base_sc_stats/test1a.stats.mapsswe.
SCTK = {
    "itmono_8": (
        'I,,"s."',
        'C,"yeah","yeah":D,"how",:S,"do","but":C,"we","we":S,"handle","have":S,"how","not":S,"do","had":C,"we","we"'
        ':C,"(ha-)","had":D,"address",:C,"that","that":I,,"s.":I,,"a."',
    ),
    "itword_20": (
        "",
        'C,"yeah","yeah":D,"how",:S,"do","but":C,"we","we":S,"handle","have":S,"how","not":S,"do","and":C,"we","we"'
        ':C,"(ha-)","":S,"address","that\'s":S,"that","right"',
    ),
}
KINDS = {"C": "correct", "S": "substituted", "D": "deleted", "I": "inserted"}


def sctk(name: str) -> list[list[AlignedWord]]:
    return [
        [
            AlignedWord(KINDS[kind], reference if kind != "I" else None, hypothesis if kind != "D" else None)  # type: ignore[arg-type]
            for kind, reference, hypothesis in csv.reader(path.split(":") if path else [])
        ]
        for path in SCTK[name]
    ]


def test_sctks_golden_case() -> None:
    """(# segs: 3) (mean: 0.667) (std dev: 0.577) (Z Stat: 2.000), errors 9 and 7."""
    found = mapsswe(sctk("itmono_8"), sctk("itword_20"))
    assert found.n_segments == 3
    assert found.errors == (9, 7)
    assert f"{found.mean:.3f} {found.std_dev:.3f} {found.z:.3f}" == "0.667 0.577 2.000"
    assert found.p_value == pytest.approx(0.0455, abs=5e-5)


def test_sctks_golden_case_the_other_way_round() -> None:
    """test1b: (mean: -0.667) (std dev: 0.577) (Z Stat: -2.000)."""
    found = mapsswe(sctk("itword_20"), sctk("itmono_8"))
    assert (found.n_segments, found.errors) == (3, (7, 9))
    assert f"{found.mean:.3f} {found.std_dev:.3f} {found.z:.3f}" == "-0.667 0.577 -2.000"


@pytest.mark.parametrize(
    ("reference", "first", "second", "expected"),
    [
        ("a b c d e f", "a b c d e f", "a b c d e f", []),
        ("a b c d e f", "x b c d e f", "a b c d e y", [(1, 0), (0, 1)]),  # four right words between
        ("a b c d", "x b c d", "a b c y", [(1, 0), (0, 1)]),  # two right words bound
        ("a b c", "x b c", "a b y", [(1, 1)]),  # one does not
        ("a b c d", "x b c d", "a x c d", [(1, 1)]),
        ("a b c d", "a b n c d", "a b c d", [(1, 0)]),  # an insertion
        ("a b c d", "x b n c d", "a b c d", [(2, 0)]),  # between two right words: they don't bound
        ("a b c d e", "x b n c d e", "a b c d y", [(2, 0), (0, 1)]),
        ("a b", "a b n", "a b", [(1, 0)]),  # at the end
        ("a b", "", "a b n m", [(2, 2)]),
        ("", "n", "", [(1, 0)]),
        ("", "", "", []),
    ],
)
def test_segments(reference: str, first: str, second: str, expected: list[tuple[int, int]]) -> None:
    assert list(segments(align(reference, first), align(reference, second))) == expected


SENTENCE = st.lists(st.sampled_from("abcdefgh"), max_size=12)


@given(st.lists(st.tuples(SENTENCE, SENTENCE, SENTENCE), max_size=4))
def test_segments_miss_no_error(sentences: list[tuple[list[str], list[str], list[str]]]) -> None:
    pairs = [tuple(align(" ".join(ref), " ".join(hyp)) for hyp in (a, b)) for ref, a, b in sentences]
    firsts, seconds = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    found = mapsswe(firsts, seconds)
    assert found.errors == tuple(
        sum(step.kind != "correct" for alignment in side for step in alignment) for side in (firsts, seconds)
    )
    back = mapsswe(seconds, firsts)
    assert back.n_segments == found.n_segments
    assert (back.z is None) == (found.z is None)
    if found.z is not None:
        assert back.z == pytest.approx(-found.z)
        assert back.p_value == pytest.approx(found.p_value)


def test_mapsswe_without_enough_to_go_by() -> None:
    right = align("a b c", "a b c")
    none = mapsswe([right], [right])
    assert (none.n_segments, none.z) == (0, None)
    assert none.why is not None
    one = mapsswe([align("a b c", "x b c")], [right])
    assert (one.n_segments, one.mean, one.z, one.p_value) == (1, 1.0, None, None)
    alike = mapsswe([align("a b c", "x b c")] * 2, [right] * 2)
    assert (alike.mean, alike.std_dev, alike.z) == (1.0, 0.0, None)
    assert "same in every segment" in (alike.why or "")
    tie = mapsswe([align("a b c", "x b c")] * 2, [align("a b c", "y b c")] * 2)
    assert (tie.z, tie.p_value) == (0.0, 1.0)


def test_mapsswe_needs_the_same_references() -> None:
    with pytest.raises(PdidError, match="same reference"):
        mapsswe([align("a b", "a b")], [align("a c", "a c")])
    with pytest.raises(PdidError, match="1 and 0"):
        mapsswe([align("a b", "a b")], [])
