"""Nothing is heard on two sides, test-only accents are in test alone, and the same seed gives the same split."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import itertools
import json
import random
import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.duplicates import write_fingerprints
from catalog.errors import PdidError, UsageError
from catalog.memory import no_search_for_cycles
from catalog.records import RATE, Duplicate, SplitMember
from catalog.store import Clip, open_catalog
from corpus_builder.assignment import GAP, MISSING, assign
from corpus_builder.cli import pdid
from corpus_builder.fingerprint import METHOD
from corpus_builder.split import NO_ACCENT, SIDES, Group, SplitSettings, Tie, catalog_state, make_groups, report
from tests.catalog_rows import kept, make_result, make_source

ACCENTS = ("Yazdi", "Lori", "Shirazi", "Scottish", None)
TEST_ONLY = ("Scottish", "Shirazi")


def source_id(number: int) -> str:
    return f"{number:016x}"


Corpus = tuple[list[Clip], list[Duplicate]]


@st.composite
def catalogs(draw: st.DrawFn) -> Corpus:
    """Clips of up to forty sources; a few speakers, labels and channels are in several of them, a few sounds too."""
    clips: list[Clip] = []
    for number in range(draw(st.integers(1, 40))):
        here = source_id(number)
        label = draw(st.sampled_from([None, None, None, "Maryam", " maryam", "Ali", f"guest {number}"]))
        channel = draw(st.sampled_from([None, None, "", "TV 1", "tv 1 ", f"radio {number % 9}"]))
        for clip in range(draw(st.integers(1, 4))):
            accent = draw(st.sampled_from(ACCENTS))
            speaker = draw(st.sampled_from([f"{here}-S1", f"{here}-S2", f"{here}-S1", f"P{number // 8}"]))
            start, length = clip * 600_000, draw(st.integers(3 * RATE, 30 * RATE))
            name = f"{here}-{clip}"
            clips.append(Clip(name, here, speaker, accent, None, start, start + length, f"{name}.wav", label, channel))
    names = [clip.segment_id for clip in clips]
    pairs = draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names)), max_size=4))
    return clips, [Duplicate(*pair, 2.5, 0.9) for pair in sorted({(min(p), max(p)) for p in pairs if p[0] != p[1]})]


def divide(corpus: Corpus, chosen: SplitSettings) -> dict[str, str]:
    """The side of each clip."""
    groups = make_groups(*corpus)
    sides = assign(groups, chosen).sides
    return {clip: sides[group.name] for group in groups for clip in group.segment_ids}


shares = st.sampled_from([(0.2, 0.1), (0.5, 0.0), (0.0, 0.3), (0.0, 0.0), (0.6, 0.3)])


@settings(max_examples=60, deadline=None)
@given(catalogs(), shares, st.integers(0, 3))
def test_nothing_is_on_two_sides_and_test_only_is_in_test_alone(
    found: Corpus, share: tuple[float, float], seed: int
) -> None:
    clips, pairs = found
    side = divide(found, SplitSettings(*share, seed=seed, test_only=TEST_ONLY))
    assert side.keys() == {clip.segment_id for clip in clips}
    heard: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        shared = [text.strip().lower() for text in (clip.speaker_label, clip.channel) if text]
        for key in (clip.source_id, clip.speaker_id, *shared):
            heard[key].add(side[clip.segment_id])
        if clip.accent in TEST_ONLY:
            assert side[clip.segment_id] == "test"
    assert {key: sides for key, sides in heard.items() if len(sides) > 1} == {}
    assert [pair for pair in pairs if side[pair.segment_a] != side[pair.segment_b]] == []
    if share[1] == 0.0:
        assert "dev" not in side.values()


@settings(max_examples=30, deadline=None)
@given(catalogs(), st.integers(0, 100), st.randoms(use_true_random=False))
def test_the_same_seed_gives_the_same_split_in_whatever_order_the_rows_come(
    found: Corpus, seed: int, dice: random.Random
) -> None:
    clips, pairs = found
    chosen = SplitSettings(seed=seed, test_only=TEST_ONLY)
    once = divide(found, chosen)
    assert divide((dice.sample(clips, len(clips)), pairs[::-1]), chosen) == once


def best_of_all(groups: list[Group], chosen: SplitSettings) -> float:
    """The least that can be misplaced, by trying every assignment there is."""
    accents = sorted({accent for group in groups for accent in group.size})
    total = {accent: sum(group.size.get(accent, 0) for group in groups) for accent in accents}
    parts = {accent: sum(accent in group.size for group in groups) for accent in accents}
    least = 1e9
    for sides in itertools.product(SIDES, repeat=len(groups)):
        cost = 0.0 if "dev" in sides else MISSING
        for accent in accents:
            got = dict.fromkeys(SIDES, 0)
            for group, side in zip(groups, sides, strict=True):
                got[side] += group.size.get(accent, 0)
            cost += sum(max(0.0, got[s] / total[accent] - chosen.wanted(accent)[s]) for s in SIDES)
            cost += MISSING * (not got["test"] and parts[accent] > 1)
        least = min(least, cost)
    return least


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from(["a", "b"]), st.integers(1, 50), min_size=1), min_size=2, max_size=7),
    st.integers(0, 3),
)
def test_the_solver_finds_what_trying_everything_finds(sizes: list[dict[str, int]], seed: int) -> None:
    groups = [Group(source_id(n), (str(n),), {a: s * RATE for a, s in size.items()}) for n, size in enumerate(sizes)]
    chosen = SplitSettings(seed=seed)
    found = assign(groups, chosen)
    least = best_of_all(groups, chosen)
    assert found.bound - 1e-6 <= least <= found.misplaced + 1e-6
    assert found.misplaced <= least + 2 * GAP + 1e-6
    assert found.gap <= 2 * GAP + 1e-6


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=3, max_size=40), st.integers(0, 5))
def test_each_side_is_off_by_no_more_than_the_largest_group(sizes: list[int], seed: int) -> None:
    groups = [Group(source_id(n), (str(n),), {"Yazdi": size * RATE}) for n, size in enumerate(sizes)]
    chosen = SplitSettings(seed=seed)
    (yazdi,) = report(groups, assign(groups, chosen).sides, chosen)
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
        for row in report(groups, assign(groups, one).sides, one):
            assert row.got == pytest.approx({"train": 7.0, "dev": 1.0, "test": 2.0})
            assert row.note == ""
    assert len({tuple(sorted(assign(groups, one).sides.items())) for one in chosen}) == 4


def test_the_report_says_why_an_accent_misses_its_shares() -> None:
    hour = 3600 * RATE
    groups = [
        Group("1", ("a",), {"Yazdi": hour}),
        Group("2", ("b",), {"Lori": 3 * hour}, 3, (Tie("channel", "tv1", 3),)),
        Group("3", ("c",), {"Lori": hour}),
        Group("4", ("d",), {"Kurdish": hour, "Shirazi": hour}),
        Group("5", ("e",), {"Shirazi": hour}),
    ]
    chosen = SplitSettings(test_only=("Shirazi",))
    sides = assign(groups, chosen).sides
    rows = {row.accent: row for row in report(groups, sides, chosen)}
    assert (sides["1"], sides["2"], sides["3"], sides["4"], sides["5"]) == ("train", "train", "test", "test", "test")
    assert rows["Yazdi"].note == "one group, which can't be divided: one recording"
    assert rows["Yazdi"].got == {"train": 1.0, "dev": 0.0, "test": 0.0}
    assert rows["Yazdi"].wanted == pytest.approx({"train": 0.7, "dev": 0.1, "test": 0.2})
    assert rows["Lori"].note == (
        "only 2 groups; the largest has 75% of it: 3 recordings joined by channel 'tv1' in 3 recordings"
    )
    assert rows["Kurdish"].note == "100% of it is in one group with Shirazi, which is test-only: one recording"
    assert rows["Shirazi"].note == "test-only"
    assert rows["Shirazi"].wanted == {"train": 0.0, "dev": 0.0, "test": 2.0}


def clips_of(*said: dict[str, Any]) -> list[Clip]:
    """One clip for each, of a source and a speaker of its own unless it says otherwise."""
    plain = [Clip(f"c{n}", f"{n:016x}", f"{n:016x}-S1", None, None, 0, RATE, "x.wav") for n in range(len(said))]
    return [replace(clip, **changes) for clip, changes in zip(plain, said, strict=True)]


@pytest.mark.parametrize("kind", ["speaker_label", "channel"])
def test_labels_and_channels_join_recordings_and_none_joins_none(kind: str) -> None:
    clips = clips_of({kind: "Maryam"}, {kind: "MARYAM "}, {kind: None}, {kind: ""}, {kind: "Ali"})
    groups = make_groups(clips)
    assert [group.segment_ids for group in groups] == [("c0", "c1"), ("c2",), ("c3",), ("c4",)]
    assert groups[0].size == {NO_ACCENT: 2 * RATE}
    name = {"speaker_label": "speaker's label"}.get(kind, kind)
    assert groups[0].why() == f"2 recordings joined by {name} 'maryam' in 2 recordings"
    assert groups[1].why() == "one recording"


def test_a_chain_of_shared_speakers_is_one_group() -> None:
    """Source 0 shares a speaker with 1, 1 with 2: all three stay together, whatever the order."""
    pairs = [(2, "B"), (0, "A"), (1, "B"), (1, "A"), (3, "C")]
    clips = [Clip(f"c{i}", source_id(s), name, None, None, 0, RATE, "x.wav") for i, (s, name) in enumerate(pairs)]
    assert [len(group.segment_ids) for group in make_groups(clips)] == [4, 1]


def test_a_chain_of_near_duplicates_and_a_channel_is_one_group() -> None:
    clips = clips_of({}, {}, {"channel": "x"}, {"channel": "X"}, {})
    pairs = [Duplicate("c0", "c1", 2.0, 1.0), Duplicate("c1", "c2", 2.0, 1.0), Duplicate("c4", "gone", 2.0, 1.0)]
    (one, other) = make_groups(clips, pairs)
    assert (one.segment_ids, other.segment_ids) == (("c0", "c1", "c2", "c3"), ("c4",))
    assert one.why() == "4 recordings joined by channel 'x' in 2 recordings, the same sound (2 pairs of clips)"


@pytest.mark.parametrize("n", [0, 1, 3, 10_001])
def test_the_state_is_the_hash_of_the_clips_and_pairs_as_json(n: int) -> None:
    clips = clips_of(*[{"channel": 'a "ی"'}] * n)
    pairs = [Duplicate("c0", f"c{k}", 2.0, 1.0) for k in range(1, n)]
    said = json.dumps(
        [[list(dataclasses.astuple(clip)) for clip in clips], sorted([p.segment_a, p.segment_b] for p in pairs)],
        ensure_ascii=False,
    )
    state = catalog_state(clips[::-1], pairs[::-1])
    assert state["sha256"] == hashlib.sha256(said.encode()).hexdigest()
    assert (state["clips"], state["sources"], state["near_duplicates"]) == (n, n, max(0, n - 1))


def test_python_looks_for_cycles_again_whatever_ends_a_split() -> None:
    seen = []

    def fail() -> None:
        seen.append(gc.isenabled())
        raise UsageError("it ends")

    with pytest.raises(UsageError), no_search_for_cycles():
        fail()
    assert [*seen, gc.isenabled()] == [False, True]


@pytest.mark.parametrize("bad", [(-0.1, 0.1), (0.5, 0.5), (1.0, 0.0), (float("nan"), 0.1)])
def test_shares_that_leave_nothing_to_train_on_are_refused(bad: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="together less than 1"):
        SplitSettings(*bad)


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve recordings in three accents, six clips of 5 s and two speakers in each. Take `corpus`, a copy."""
    folder = tmp_path_factory.mktemp("twelve")
    with open_catalog(folder, write=True) as catalog:
        for number in range(12):
            here = source_id(number + 1)
            clips = [kept(n, here, speaker_id=f"{here}-S{n % 2}") for n in range(6)]
            accent = ("Yazdi", "Scottish", "Shirazi")[number % 3]
            catalog.write_source(make_result(*clips, source=make_source(here, accent=accent)))
    return folder


@pytest.fixture
def corpus(twelve: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(twelve, tmp_path / "corpus"))


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
    assert (info.settings["taxonomy"], info.settings["standard"]) == ("persian", "Tehrani")
    assert info.settings["groups"] == 12
    assert info.settings["assignment"]["gap"] <= 3 * GAP
    made_from = info.settings["catalog"]
    assert (made_from["clips"], made_from["sources"], made_from["speakers"]) == (72, 12, 24)

    checked = run(corpus, "--check")
    assert checked.exit_code == 0, checked.output
    assert checked.stdout.count("no row: holds") == 6
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
        ("channel", "no channel is on two sides"),
        ("sound", "no near-duplicates are on two sides"),
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
        one = make_source(first, accent=accent, speaker=label, channel="TV1" if leak == "channel" else None)
        other = make_source(second, accent="Lori", speaker=label, channel="tv1 ")
        catalog.write_source(make_result(*clips[:2], source=one))
        catalog.write_source(make_result(*clips[2:], source=other))
        if leak == "sound":
            write_fingerprints(catalog, METHOD, {}, [Duplicate(clips[0].segment_id, clips[3].segment_id, 4.96, 0.9)])
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


def by_hand(folder: Path, *lines: str, name: str = "hand.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(["segment_id,split", *lines]) + "\n", "utf-8")
    return path


def test_a_split_made_by_hand_is_written_and_checked(corpus: Path) -> None:
    with open_catalog(corpus) as catalog:
        clips = catalog.clips()
    sides = {source: ("train", "dev", "test")[n % 3] for n, source in enumerate(sorted({c.source_id for c in clips}))}
    sound = by_hand(corpus, *(f"{clip.segment_id},{sides[clip.source_id]}" for clip in clips))
    looked = run(corpus, "--from", str(sound), "--check")
    assert looked.exit_code == 0, looked.output
    assert "WHERE split_name = 'hand.csv'" in looked.stdout
    with open_catalog(corpus) as catalog:
        assert catalog.splits() == []
    done = run(corpus, "--from", str(sound), "--name", "ours")
    assert done.exit_code == 0, done.output
    with open_catalog(corpus) as catalog:
        (info,) = catalog.splits()
        assert {m.segment_id: m.split for m in catalog.split_members("ours")} == {
            clip.segment_id: sides[clip.source_id] for clip in clips
        }
    assert info.settings["from"] == "hand.csv"
    assert run(corpus, "--check", "--name", "ours").exit_code == 0

    leaky = by_hand(corpus, f"{clips[0].segment_id},train", f"{clips[1].segment_id},test", name="leaky.csv")
    for arguments in (("--check",), ("--name", "leaky")):
        found = run(corpus, "--from", str(leaky), *arguments, "--json")
        assert found.exit_code == 1
        assert [line["check"] for line in map(json.loads, found.stdout.splitlines()) if not line["ok"]] == [
            "no recording is on two sides"
        ]
        assert "70 of 72 clips are not in" in found.stderr
    assert run(corpus, "--check", "--name", "leaky").exit_code == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("segment_id,split\nGOOD,train\nnothing,test\n", "line 3: the corpus has no kept segment 'nothing'"),
        ("segment_id,split\nGOOD,Test\n", "line 2: 'Test' is no side of a split: write test"),
        ("segment_id,split\nGOOD,validation\n", "line 2: 'validation' is no side of a split: write dev"),
        ("segment_id,split\nGOOD,train\n\nGOOD,test\n", "line 4: segment GOOD stands in line 2 already"),
        ("segment_id,split\nGOOD,\n", "line 2: a row needs a cell"),
        ("segment_id,splitt\nGOOD,train\n", "splitt"),
        ("segment_id,split\n", "names no clips"),
        ("", "is empty"),
        ("segment_id,split\n\0\n", "no text"),
    ],
)
def test_a_split_file_edited_into_nonsense_is_a_usage_error(corpus: Path, text: str, says: str) -> None:
    good = f"{source_id(1)}-0"
    path = corpus / "bad.csv"
    path.write_text(text.replace("GOOD", good), "utf-8")
    for arguments in ((), ("--check",)):
        done = run(corpus, "--from", str(path), *arguments)
        assert isinstance(done.exception, UsageError), done.output
        assert says.replace("GOOD", good) in str(done.exception)
    with open_catalog(corpus) as catalog:
        assert catalog.splits() == []


def test_shares_and_seed_do_not_go_with_a_split_made_by_hand(corpus: Path) -> None:
    path = by_hand(corpus, f"{source_id(1)}-0,train")
    assert "--seed says nothing" in str(run(corpus, "--from", str(path), "--seed", "1").exception)


@pytest.fixture(scope="module")
def tangled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Clip], list[Duplicate]]:
    """Eight recordings of three clips; some share a speaker, a label, a channel or a sound."""
    folder = tmp_path_factory.mktemp("tangled")
    said = [{"channel": "A"}, {"channel": " a"}, {"speaker": "Ali"}, {"speaker": "ali "}, {}, {}, {}, {}]
    with open_catalog(folder, write=True) as catalog:
        for number, labels in enumerate(said, 1):
            here = source_id(number)
            clips = [kept(n, here, speaker_id="P" if number in (5, 6) else f"{here}-S{n}") for n in range(3)]
            accent = "Shirazi" if number == 8 else "Yazdi"
            catalog.write_source(make_result(*clips, source=make_source(here, accent=accent, **labels)))
        pairs = [Duplicate(f"{source_id(6)}-0", f"{source_id(7)}-2", 3.0, 0.9)]
        write_fingerprints(catalog, METHOD, {}, pairs)
        return folder, catalog.clips(), pairs


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_every_leak_of_a_split_made_by_hand_is_reported_and_nothing_else(
    tangled: tuple[Path, list[Clip], list[Duplicate]], data: st.DataObject
) -> None:
    """Sides by group, then a few clips moved: what the SQL finds is what a look at the clips finds."""
    folder, clips, pairs = tangled
    side: dict[str, str] = {}
    for group in make_groups(clips, pairs):
        here = "test" if "Shirazi" in group.size else data.draw(st.sampled_from(SIDES))
        side |= dict.fromkeys(group.segment_ids, here)
    for clip in data.draw(st.lists(st.sampled_from(clips), max_size=2)):
        side[clip.segment_id] = data.draw(st.sampled_from(SIDES))
    expected = set()
    for a, b in itertools.combinations(clips, 2):
        if side[a.segment_id] != side[b.segment_id]:
            labels = [(x.speaker_label or "").strip().lower() for x in (a, b)]
            channels = [(x.channel or "").strip().lower() for x in (a, b)]
            for what, same in (
                ("no recording is on two sides", a.source_id == b.source_id),
                ("no speaker is on two sides", a.speaker_id == b.speaker_id),
                ("no speaker's label is on two sides", labels[0] == labels[1] != ""),
                ("no channel is on two sides", channels[0] == channels[1] != ""),
                ("no near-duplicates are on two sides", (a.segment_id, b.segment_id) == _ids(pairs[0])),
            ):
                expected |= {what} if same else set()
    if any(side[clip.segment_id] != "test" for clip in clips if clip.accent == "Shirazi"):
        expected.add("test-only accents are in test alone")
    path = by_hand(folder, *(f"{name},{where}" for name, where in side.items()))
    done = run(folder, "--from", str(path), "--check", "--json")
    found = {line["check"] for line in map(json.loads, done.stdout.splitlines()) if not line["ok"]}
    assert (found, done.exit_code) == (expected, 1 if expected else 0)


def _ids(pair: Duplicate) -> tuple[str, str]:
    return pair.segment_a, pair.segment_b


@pytest.mark.parametrize(
    ("labels", "hint"),
    [
        ({"channel": "Radio"}, "4 recordings joined by channel 'radio' in 4 recordings; if it names too much"),
        ({"speaker": "Ali"}, "4 recordings joined by speaker's label 'ali' in 4 recordings; if these are several"),
    ],
)
def test_where_all_is_one_group_it_says_why_and_what_to_do(tmp_path: Path, labels: dict[str, str], hint: str) -> None:
    with open_catalog(tmp_path, write=True) as catalog:
        for number in range(4):
            here = source_id(number)
            catalog.write_source(make_result(kept(0, here), source=make_source(here, accent="Lori", **labels)))
    done = run(tmp_path)
    assert isinstance(done.exception, PdidError)
    assert "all 4 clips are one group" in str(done.exception)
    assert hint in str(done.exception)
    with open_catalog(tmp_path) as catalog:
        assert catalog.splits() == []
    # what may be done by hand all the same is told of as what it is
    path = by_hand(tmp_path, *(f"{source_id(n)}-0,{'test' if n else 'train'}" for n in range(4)))
    assert run(tmp_path, "--from", str(path)).exit_code == 1


def test_one_group_that_is_test_only_is_a_split(tmp_path: Path) -> None:
    with open_catalog(tmp_path, write=True) as catalog:
        catalog.write_source(make_result(kept(0), source=make_source(accent="Shirazi")))
    done = run(tmp_path)
    assert done.exit_code == 0, done.output
    assert "dev has no clips" in done.stderr


def test_the_check_says_what_has_changed_since(corpus: Path) -> None:
    assert run(corpus, "--name", "paper").exit_code == 0
    assert "have changed" not in run(corpus, "--check").stderr
    with open_catalog(corpus, write=True) as catalog:
        first, second = catalog.sources()[0], catalog.sources()[1]
        catalog.update_labels([replace(first, channel="TV1"), replace(second, channel="TV1")])
    assert "have changed since it was made" in run(corpus, "--check").stderr


def test_without_clips_or_splits_it_says_so(tmp_path: Path) -> None:
    assert "no catalog" in str(run(tmp_path).exception)
    assert not list(tmp_path.iterdir())
    with open_catalog(tmp_path, write=True):
        pass
    empty = by_hand(tmp_path, "x,train")
    assert "no kept clips" in str(run(tmp_path, "--from", str(empty)).exception)
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
