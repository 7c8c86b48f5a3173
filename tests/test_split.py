"""Nobody is heard on two sides, test-only accents are in test alone, and the same seed gives the same split."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import UsageError
from catalog.records import RATE, SplitMember
from catalog.store import Clip, open_catalog
from corpus_builder.cli import pdid
from corpus_builder.split import NO_ACCENT, SIDES, Group, SplitSettings, assign, make_groups, report
from tests.catalog_rows import kept, make_result, make_source

ACCENTS = ("Yazdi", "Lori", "Shirazi", "Scottish", None)
TEST_ONLY = ("Scottish", "Shirazi")


def source_id(number: int) -> str:
    return f"{number:016x}"


@st.composite
def catalogs(draw: st.DrawFn) -> tuple[list[Clip], dict[str, str | None]]:
    """Clips of up to forty sources; a few speakers and labels are heard in several of them."""
    clips: list[Clip] = []
    labels: dict[str, str | None] = {}
    for number in range(draw(st.integers(1, 40))):
        here = source_id(number)
        accent = draw(st.sampled_from(ACCENTS))
        labels[here] = draw(st.sampled_from([None, None, None, "Maryam", " maryam", "Ali", f"guest {number}"]))
        for clip in range(draw(st.integers(1, 4))):
            speaker = draw(st.sampled_from([f"{here}-S1", f"{here}-S2", f"{here}-S1", f"P{number // 8}"]))
            length = draw(st.integers(3 * RATE, 30 * RATE))
            name = f"{here}-{clip}"
            clips.append(
                Clip(name, here, speaker, accent, None, clip * 600_000, clip * 600_000 + length, f"{name}.wav")
            )
    return clips, labels


def divide(clips: list[Clip], labels: dict[str, str | None], chosen: SplitSettings) -> dict[str, str]:
    """The side of each clip."""
    groups = make_groups(clips, labels)
    sides = assign(groups, chosen)
    return {clip: sides[group.name] for group in groups for clip in group.segment_ids}


shares = st.sampled_from([(0.2, 0.1), (0.5, 0.0), (0.0, 0.3), (0.0, 0.0), (0.6, 0.3)])


@settings(max_examples=60, deadline=None)
@given(catalogs(), shares, st.integers(0, 3))
def test_nobody_is_on_two_sides_and_test_only_is_in_test_alone(
    found: tuple[list[Clip], dict[str, str | None]], share: tuple[float, float], seed: int
) -> None:
    clips, labels = found
    side = divide(clips, labels, SplitSettings(*share, seed=seed, test_only=TEST_ONLY))
    assert side.keys() == {clip.segment_id for clip in clips}
    heard: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        label = (labels[clip.source_id] or "").strip().lower()
        for key in (clip.source_id, clip.speaker_id, *([label] if label else [])):
            heard[key].add(side[clip.segment_id])
        if clip.accent in TEST_ONLY:
            assert side[clip.segment_id] == "test"
    assert {key: sides for key, sides in heard.items() if len(sides) > 1} == {}
    if share[1] == 0.0:
        assert "dev" not in side.values()


@settings(max_examples=30, deadline=None)
@given(catalogs(), st.integers(0, 100), st.randoms(use_true_random=False))
def test_the_same_seed_gives_the_same_split_in_whatever_order_the_rows_come(
    found: tuple[list[Clip], dict[str, str | None]], seed: int, dice: random.Random
) -> None:
    clips, labels = found
    chosen = SplitSettings(seed=seed, test_only=TEST_ONLY)
    once = divide(clips, labels, chosen)
    assert divide(dice.sample(clips, len(clips)), dict(reversed(labels.items())), chosen) == once


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=3, max_size=40), st.integers(0, 5))
def test_each_side_is_off_by_no_more_than_the_largest_group(sizes: list[int], seed: int) -> None:
    groups = [Group(source_id(n), (str(n),), {"Yazdi": size * RATE}) for n, size in enumerate(sizes)]
    chosen = SplitSettings(seed=seed)
    (yazdi,) = report(groups, assign(groups, chosen), chosen)
    largest = max(sizes) / 3600
    for side in SIDES:
        assert abs(yazdi.got[side] - yazdi.wanted[side]) <= largest + 1e-9, side
    assert yazdi.got["test"] > 0
    assert yazdi.got["train"] > 0
    assert sum(yazdi.got.values()) == pytest.approx(sum(sizes) / 3600)


def test_shares_are_met_exactly_where_that_can_be() -> None:
    """Ten groups of the same size in each of three accents, and seeds that choose different ones."""
    groups = [Group(f"{accent}{n}", (f"{accent}{n}",), {accent: RATE * 3600}) for accent in "abc" for n in range(10)]
    chosen = [SplitSettings(seed=seed) for seed in range(4)]
    for one in chosen:
        for row in report(groups, assign(groups, one), one):
            assert row.got == pytest.approx({"train": 7.0, "dev": 1.0, "test": 2.0})
            assert row.note == ""
    assert len({tuple(sorted(assign(groups, one).items())) for one in chosen}) == 4


def test_the_report_says_why_an_accent_misses_its_shares() -> None:
    hour = 3600 * RATE
    groups = [
        Group("1", ("a",), {"Yazdi": hour}),
        Group("2", ("b",), {"Lori": 3 * hour}),
        Group("3", ("c",), {"Lori": hour}),
        Group("4", ("d",), {"Kurdish": hour, "Shirazi": hour}),
        Group("5", ("e",), {"Shirazi": hour}),
    ]
    chosen = SplitSettings(test_only=("Shirazi",))
    sides = assign(groups, chosen)
    rows = {row.accent: row for row in report(groups, sides, chosen)}
    assert (sides["1"], sides["2"], sides["3"], sides["4"], sides["5"]) == ("train", "train", "test", "test", "test")
    assert rows["Yazdi"].note == "one group of recordings, which can't be divided"
    assert rows["Yazdi"].got == {"train": 1.0, "dev": 0.0, "test": 0.0}
    assert rows["Yazdi"].wanted == pytest.approx({"train": 0.7, "dev": 0.1, "test": 0.2})
    assert rows["Lori"].note == "only 2 groups, the largest 75% of it"
    assert rows["Kurdish"].note == "shares recordings or speakers with Shirazi, which is test-only"
    assert rows["Shirazi"].note == "test-only"
    assert rows["Shirazi"].wanted == {"train": 0.0, "dev": 0.0, "test": 2.0}


def test_a_label_of_the_sources_file_joins_recordings_and_no_label_joins_none() -> None:
    clips = [Clip(f"c{n}", source_id(n), f"{source_id(n)}-S1", None, None, 0, RATE, "x.wav") for n in range(5)]
    labels = {
        source_id(0): "Maryam",
        source_id(1): "MARYAM ",
        source_id(2): None,
        source_id(3): "",
        source_id(4): "Ali",
    }
    groups = make_groups(clips, labels)
    assert [group.segment_ids for group in groups] == [("c0", "c1"), ("c2",), ("c3",), ("c4",)]
    assert groups[0].size == {NO_ACCENT: 2 * RATE}


def test_a_chain_of_shared_speakers_is_one_group() -> None:
    """Source 0 shares a speaker with 1, 1 with 2: all three stay together, whatever the order."""
    pairs = [(2, "B"), (0, "A"), (1, "B"), (1, "A"), (3, "C")]
    clips = [Clip(f"c{i}", source_id(s), name, None, None, 0, RATE, "x.wav") for i, (s, name) in enumerate(pairs)]
    assert [len(group.segment_ids) for group in make_groups(clips, {})] == [4, 1]


@pytest.mark.parametrize("bad", [(-0.1, 0.1), (0.5, 0.5), (1.0, 0.0), (float("nan"), 0.1)])
def test_shares_that_leave_nothing_to_train_on_are_refused(bad: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="together less than 1"):
        SplitSettings(*bad)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Twelve recordings in three accents, six clips of 5 s and two speakers in each."""
    with open_catalog(tmp_path, write=True) as catalog:
        for number in range(12):
            here = source_id(number + 1)
            clips = [kept(n, here, speaker_id=f"{here}-S{n % 2}") for n in range(6)]
            accent = ("Yazdi", "Scottish", "Shirazi")[number % 3]
            catalog.write_source(make_result(*clips, source=make_source(here, accent=accent)))
    return tmp_path


def run(corpus: Path, *arguments: str) -> Result:
    return CliRunner().invoke(pdid, ["split", *arguments, "--corpus", str(corpus)])


def test_a_split_is_written_checked_and_never_changed(corpus: Path) -> None:
    done = run(corpus, "--name", "paper", "--seed", "7", "--json")
    assert done.exit_code == 0, done.output
    rows = {row["accent"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert rows["Shirazi"]["test"] == {"wanted_h": 0.033333, "got_h": 0.033333}
    assert rows["Shirazi"]["train"]["got_h"] == 0.0
    assert rows["Yazdi"]["groups"] == 4
    assert rows["Yazdi"]["test"]["got_h"] == 0.008333  # one of four
    with open_catalog(corpus) as catalog:
        (info,) = catalog.splits()
        members = catalog.split_members("paper")
    assert (info.name, info.seed) == ("paper", 7)
    assert info.settings["test_only"] == ["Balochi", "Shirazi", "Tajiki"]
    assert len(members) == 72

    checked = run(corpus, "--check")
    assert checked.exit_code == 0, checked.output
    assert checked.stdout.count("no row: holds") == 4
    assert "accent IN ('Balochi', 'Shirazi', 'Tajiki')" in checked.stdout
    again = run(corpus, "--name", "paper")
    assert isinstance(again.exception, UsageError)
    assert "never changes" in str(again.exception)
    assert run(corpus).exit_code == run(corpus).exit_code == 0
    with open_catalog(corpus) as catalog:
        assert [split.name for split in catalog.splits()] == ["paper", "split-1", "split-2"]
        assert catalog.split_members("split-1") == catalog.split_members("split-2")
        assert catalog.split_members("paper") == members


@pytest.mark.parametrize(
    ("leak", "what"),
    [
        ("source", "no recording is on two sides"),
        ("speaker", "no speaker is on two sides"),
        ("label", "no speaker's label is on two sides"),
        ("accent", "test-only accents are in test alone"),
    ],
)
def test_the_check_finds_a_leak_of_each_kind(tmp_path: Path, leak: str, what: str) -> None:
    """Splits written by hand, each with one fault."""
    first, second = source_id(1), source_id(2)
    clips = [kept(0, first), kept(1, first, speaker_id="other"), kept(0, second), kept(1, second)]
    label, accent = ("Maryam" if leak == "label" else None), ("Shirazi" if leak == "accent" else "Yazdi")
    if leak == "speaker":
        clips[2] = replace(clips[2], speaker_id=clips[0].speaker_id)
    with open_catalog(tmp_path, write=True) as catalog:
        catalog.write_source(make_result(*clips[:2], source=make_source(first, accent=accent, speaker=label)))
        catalog.write_source(make_result(*clips[2:], source=make_source(second, accent="Lori", speaker=label)))
        sides = ("train", "test" if leak == "source" else "train", "test", "test")
        members = [SplitMember(clip.segment_id, side) for clip, side in zip(clips, sides, strict=True)]
        catalog.write_split(members, settings={"test_only": ["Shirazi"]})
    done = run(tmp_path, "--check", "--json")
    assert done.exit_code == 1, done.output
    checks = [json.loads(line) for line in done.stdout.splitlines()]
    assert [check["check"] for check in checks if not check["ok"]] == [what]
    (found,) = [check for check in checks if not check["ok"]]
    assert len(found["leaks"]) == 1
    shown = run(tmp_path, "--check")
    assert "1 LEAKS" in shown.stdout
    assert "1 of the checks FAILED" in shown.stderr


def test_the_check_looks_at_the_split_it_is_given(corpus: Path) -> None:
    assert run(corpus, "--name", "good").exit_code == 0
    with open_catalog(corpus, write=True) as catalog:
        first, second, *_ = catalog.clips()  # of one recording
        catalog.write_split([SplitMember(first.segment_id, "train"), SplitMember(second.segment_id, "dev")], name="bad")
    assert run(corpus, "--check").exit_code == 1
    assert run(corpus, "--check", "--name", "good").exit_code == 0
    assert run(corpus, "--check", "--name", "good", "--test-only", "Yazdi").exit_code == 1


def test_clips_that_are_gone_since_are_told_of(corpus: Path) -> None:
    assert run(corpus).exit_code == 0
    with open_catalog(corpus, write=True) as catalog:
        catalog.write_source(make_result(kept(50, source_id(1)), source=make_source(source_id(1), accent="Yazdi")))
    assert "6 of its 72 clips are no longer kept" in run(corpus, "--check").stderr
    with open_catalog(corpus, write=True) as catalog:
        for number in range(1, 13):
            catalog.write_source(make_result(source=make_source(source_id(number))))
    assert "make a new one" in str(run(corpus, "--check").exception)


def test_test_only_by_alias_or_label_of_the_catalog(corpus: Path) -> None:
    done = run(corpus, "--test-only", "scottish, یزدی", "--json")
    assert done.exit_code == 0, done.output
    rows = {row["accent"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert rows["Scottish"]["note"] == rows["Yazdi"]["note"] == "test-only"
    assert rows["Shirazi"]["train"]["got_h"] > 0  # what is named replaces the taxonomy's
    none = run(corpus, "--test-only", "", "--json")
    assert "test-only" not in none.stdout


@pytest.mark.parametrize(
    ("name", "hint"),
    [("Scotish", "did you mean 'Scottish'"), ("Yazdii", "misspelling of 'Yazdi'"), ("Zulu", "there are")],
)
def test_a_misspelt_test_only_accent_is_a_usage_error(corpus: Path, name: str, hint: str) -> None:
    done = run(corpus, "--test-only", name)
    assert isinstance(done.exception, UsageError)
    assert hint in str(done.exception)
    with open_catalog(corpus) as catalog:
        assert catalog.splits() == []


def test_without_clips_or_splits_it_says_so(tmp_path: Path) -> None:
    assert "no catalog" in str(run(tmp_path).exception)
    assert not list(tmp_path.iterdir())
    with open_catalog(tmp_path, write=True):
        pass
    assert "no kept clips" in str(run(tmp_path).exception)
    assert "there is no split yet" in str(run(tmp_path, "--check").exception)


def test_the_table_for_people(corpus: Path) -> None:
    done = run(corpus)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == [
        "accent",
        "hours",
        "groups",
        *["train", "wanted", "dev", "wanted", "test", "wanted", "note"],
    ]
    assert lines[3].split() == ["Shirazi", "0.033", "4", *["0.000"] * 4, "0.033", "0.033", "test-only"]
    assert "split split-1: 72 clips in 12 groups" in done.stderr
