"""Linking speakers across recordings: by voice, by label, by what somebody said of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from catalog.annotations import link_rules, links, write_link_rules
from catalog.records import RATE, LinkRule, Mark, SourceResult, SpeakerVoice, Stage, Stretch
from catalog.speakers import LocalSpeaker, heard_in, links_are_due, local_speakers
from catalog.store import Catalog, open_catalog
from corpus_builder import speakers
from corpus_builder.audio import Samples, Track
from corpus_builder.config import Settings
from corpus_builder.diarize.embedded import Embedded
from corpus_builder.speakers import SAME_PERSON, Rule, cluster, link, link_speakers
from corpus_builder.vad import SpeechDetector
from tests.catalog_rows import WHEN, kept, make_result, make_source
from tests.conftest import MakeWav
from tests.media import EMBEDDED, Pdid, finished, query

NOBODY = np.zeros(0, np.int64)


def speaker(
    name: str, angle: float | None, label: str | None = None, seconds: float = 10, model: str = "m"
) -> LocalSpeaker:
    """A voice at an angle, in degrees: two are as alike as the angle between them is small (0.84 is 32.9)."""
    turn = None if angle is None else np.deg2rad(angle)
    vector = None if turn is None else (float(np.cos(turn)), float(np.sin(turn)))
    source_id = name.split("-")[0]
    return LocalSpeaker(name, source_id, label, model, seconds, Stretch(source_id, 0, RATE), vector)


def people(links: dict[str, str]) -> set[frozenset[str]]:
    return {frozenset(i for i, who in links.items() if who == person) for person in set(links.values())}


# Voices


def test_voices_alike_are_one_person_named_after_the_first() -> None:
    found = link([speaker("c-S1", 10), speaker("b-S1", 0), speaker("a-S1", 90), speaker("d-S2", 95)])
    assert found == {"a-S1": "a-S1", "b-S1": "b-S1", "c-S1": "b-S1", "d-S2": "a-S1"}


def test_groups_are_joined_by_their_average() -> None:
    """A chain of voices, each like the next, is not one person from end to end."""
    found = link([speaker(f"{n:02}-S1", 25.0 * n) for n in range(8)])
    for group in people(found):
        assert len(group) <= 3
    assert len(people(found)) >= 3


def test_less_is_asked_of_short_voices() -> None:
    angle = float(np.rad2deg(np.arccos(SAME_PERSON - 0.04)))
    assert len(people(link([speaker("a-S1", 0), speaker("b-S1", angle)]))) == 2
    assert len(people(link([speaker("a-S1", 0), speaker("b-S1", angle, seconds=2)]))) == 1


def test_more_is_asked_over_the_telephone() -> None:
    angle = float(np.rad2deg(np.arccos(SAME_PERSON + 0.02)))
    for hz, n in ((8000.0, 1), (None, 1), (3400.0, 2)):
        heard = [replace(speaker("a-S1", 0), bandwidth_hz=hz), speaker("b-S1", angle)]
        assert len(people(link(heard))) == n


def test_voices_of_different_models_and_no_voices_are_linked_by_word_only() -> None:
    voices = [speaker("a-S1", 0), speaker("b-S1", 0, model="other"), speaker("c-S1", None), speaker("d-S1", None)]
    assert len(people(link(voices))) == 4
    assert people(link(voices, [Rule(True, "a-S1", "b-S1"), Rule(True, "c-S1", "b-S1")])) == {
        frozenset({"a-S1", "b-S1", "c-S1"}),
        frozenset({"d-S1"}),
    }
    assert link([]) == {}


def plain(vectors: Samples, threshold: float, apart: list[tuple[int, int]]) -> set[frozenset[int]]:
    """The same by one linkage over all voices."""
    distance = np.clip(1 - vectors @ vectors.T, 0, 2).astype(float)
    for a, b in apart:
        distance[a, b] = distance[b, a] = 1e6
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average")
    tree[:, 2] = np.maximum(tree[:, 2], 0)
    labels = fcluster(tree, 1 - threshold, "distance")
    return {frozenset(np.flatnonzero(labels == k).tolist()) for k in set(labels)}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 60), st.integers(2, 8), st.integers(0, 4))
def test_linking_within_components_is_linking_all(seed: int, n: int, dimensions: int, n_apart: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = np.abs(rng.normal(size=(n, dimensions))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    apart = [(int(a), int(b)) for a, b in rng.integers(0, n, (n_apart, 2)) if a != b]
    found = cluster(vectors, np.full(n, 10.0), np.zeros(n, bool), 0.84, apart, np.full(n, -1))
    groups = {frozenset(np.flatnonzero(found == k).tolist()) for k in set(found.tolist())}
    assert groups == plain(vectors, 0.84, apart)
    assert all(not {a, b} <= group for a, b in apart for group in groups)


def test_thousands_of_voices_in_blocks_and_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(400, 64))
    vectors = np.repeat(centres, 6, 0) + 0.2 * rng.normal(size=(2400, 64))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    truth = {frozenset(range(6 * k, 6 * k + 6)) for k in range(400)}
    for most, wide in ((speakers.MOST, speakers.WIDE), (speakers.MOST, 700), (4, 700)):
        # groups over the limit are parted, never joined to others
        monkeypatch.setattr(speakers, "MOST", most)
        monkeypatch.setattr(speakers, "WIDE", wide)
        found = cluster(vectors, np.full(2400, 10.0), np.zeros(2400, bool), 0.84, [], np.full(2400, -1))
        groups = {frozenset(np.flatnonzero(found == k).tolist()) for k in set(found.tolist())}
        if most > 6:
            assert groups == truth
        else:
            assert all(any(group <= person for person in truth) for group in groups)
            assert max(map(len, groups)) <= most


def test_the_diarizer_is_believed_on_voices_of_one_recording_unless_they_are_short() -> None:
    for seconds, n in ((6.0, 2), (5.9, 1)):
        voices = [speaker("a-S1", 0, seconds=10), speaker("a-S2", 1, seconds=seconds), speaker("b-S1", 0.5, seconds=3)]
        assert len(people(link(voices))) == n
        assert len(people(link(voices, [Rule(True, "a-S1", "a-S2")]))) == 1


# What is said


def test_one_name_is_one_person_and_two_names_are_two() -> None:
    voices = [speaker("a-S1", 0, "host"), speaker("b-S1", 80, "host"), speaker("c-S1", 1, "guest"), speaker("d-S1", 81)]
    assert people(link(voices)) == {frozenset({"a-S1", "b-S1", "d-S1"}), frozenset({"c-S1"})}


def test_a_name_is_that_of_who_does_nearly_all_of_the_talking() -> None:
    voices = [
        speaker("a-S1", 0, "host", 95), speaker("a-S2", 90, "host", 5),
        speaker("b-S1", 45, "host", 60), speaker("b-S2", 90, "host", 40),
    ]  # fmt: skip
    assert people(link(voices)) == {frozenset({"a-S1"}), frozenset({"b-S1"}), frozenset({"a-S2", "b-S2"})}


def test_a_merge_brings_whole_groups_together_and_a_split_keeps_apart() -> None:
    voices = [speaker("a-S1", 0), speaker("b-S1", 2), speaker("c-S1", 90), speaker("d-S1", 92)]
    assert people(link(voices, [Rule(True, "a-S1", "d-S1")])) == {frozenset({"a-S1", "b-S1", "c-S1", "d-S1"})}
    apart = people(link(voices, [Rule(False, "a-S1", "b-S1")]))
    assert apart == {frozenset({"a-S1"}), frozenset({"b-S1"}), frozenset({"c-S1", "d-S1"})}
    # b must not be with a, though it must be with c and c with a: the earlier rules hold
    rules = [Rule(False, "a-S1", "b-S1"), Rule(True, "b-S1", "c-S1"), Rule(True, "c-S1", "a-S1")]
    assert people(link(voices, rules)) == {frozenset({"a-S1"}), frozenset({"b-S1", "c-S1", "d-S1"})}
    assert people(link(voices, rules[1:] + rules[:1])) == {frozenset({"a-S1", "b-S1", "c-S1", "d-S1"})}


def test_rules_go_above_names() -> None:
    voices = [speaker("a-S1", 0, "host"), speaker("b-S1", 1, "host"), speaker("c-S1", 2, "guest")]
    assert people(link(voices)) == {frozenset({"a-S1", "b-S1"}), frozenset({"c-S1"})}
    together = people(link(voices, [Rule(True, "a-S1", "c-S1")]))
    assert together == {frozenset({"a-S1", "b-S1", "c-S1"})}
    apart = people(link(voices, [Rule(False, "a-S1", "b-S1")]))
    assert frozenset({"a-S1", "b-S1"}) not in apart
    assert len(apart) == 3


RULES = st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 9)), max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 180), min_size=10, max_size=10),
    st.lists(st.sampled_from([None, None, "x", "y"]), min_size=10, max_size=10),
    RULES,
)
def test_the_first_rules_hold_whatever_follows(
    angles: list[int], names: list[str | None], drawn: list[tuple[bool, int, int]]
) -> None:
    voices = [speaker(f"{i}-S1", angle, name) for i, (angle, name) in enumerate(zip(angles, names, strict=True))]
    rules = [Rule(same, f"{a}-S1", f"{b}-S1") for same, a, b in drawn if a != b]
    found = link(voices, rules)
    assert found == link(voices[::-1], rules)
    if rules:
        assert (found[rules[0].a] == found[rules[0].b]) is rules[0].same
    # a rule that holds alone against all before it holds; so all "different" ones do when there are no others
    apart = [rule for rule in rules if not rule.same]
    alone = link(voices, apart)
    assert all(alone[rule.a] != alone[rule.b] for rule in apart)
    assert all(min(i for i, who in found.items() if who == person) == person for person in found.values())


# The catalog


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with open_catalog(tmp_path / "corpus", write=True) as opened:
        yield opened


def recording(source_id: str, voices: dict[str, float], label: str | None = None) -> SourceResult:
    """A recording in which voices, at angles, speak for ten seconds each, in the order given."""
    result = make_result(
        *(
            kept(n, source_id, speaker_id=f"{source_id}-{name}", start=n * 10 * RATE, end=(n + 1) * 10 * RATE)
            for n, name in enumerate(voices)
        ),
        source=make_source(source_id, speaker=label),
    )
    turns = tuple(
        Mark("turn", n * 10 * RATE + k * RATE, n * 10 * RATE + (k + 2) * RATE, name)
        for n, name in enumerate(voices)
        for k in range(0, 10, 2)
    )
    stage = Stage(source_id, "diarize", 1.0, 1.0, "aa", "m", WHEN)
    mean = {name: speaker("x-S1", angle).embedding for name, angle in voices.items()}
    kept_voices = tuple(SpeakerVoice(f"{source_id}-{name}", source_id, vector or ()) for name, vector in mean.items())
    return replace(result, marks=turns, stages=(stage,), voices=kept_voices)


A, B, C = "a" * 16, "b" * 16, "c" * 16


def test_local_speakers_have_all_that_linking_needs(catalog: Catalog) -> None:
    catalog.write_source(recording(A, {"S1": 0, "S2": 90}, "host"))
    first, second = local_speakers(catalog)
    assert (first.local_id, first.source_id, first.label, first.model, first.seconds) == (f"{A}-S1", A, "host", "m", 10)
    assert first.stretch == Stretch(A, 0, 10 * RATE)
    assert second.stretch == Stretch(A, 10 * RATE, 20 * RATE)
    assert second.embedding == pytest.approx((0, 1), abs=1e-6)
    asked = [Stretch(A, 5 * RATE, 13 * RATE), Stretch(A, 9 * RATE, 20 * RATE), Stretch(B, 0, RATE)]
    assert heard_in(catalog, asked) == [f"{A}-S1", f"{A}-S2", None]
    assert heard_in(catalog, []) == []


def test_links_are_due_when_voices_or_names_change_and_not_otherwise(catalog: Catalog) -> None:
    assert not links_are_due(catalog)
    catalog.write_source(recording(A, {"S1": 0}))
    catalog.write_source(recording(B, {"S1": 1}))
    assert links_are_due(catalog)
    link_speakers(catalog)
    assert links(catalog) == {f"{A}-S1": f"{A}-S1", f"{B}-S1": f"{A}-S1"}
    assert not links_are_due(catalog)
    catalog.write_source(recording(B, {"S1": 1}))  # as it was
    catalog.update_labels([replace(recording(B, {}).source, title="new")])
    assert not links_are_due(catalog)
    catalog.update_labels([replace(recording(B, {}).source, speaker="guest")])
    assert links_are_due(catalog)
    link_speakers(catalog)
    catalog.write_source(recording(B, {"S1": 90}, "guest"))  # another voice of the same name
    assert links_are_due(catalog)
    assert len(set(link_speakers(catalog).values())) == 2
    catalog.write_source(recording(B, {"S1": 90, "S2": 1}, "guest"))
    assert links_are_due(catalog)
    assert link_speakers(catalog) == {f"{A}-S1": f"{A}-S1", f"{B}-S1": f"{B}-S1", f"{B}-S2": f"{A}-S1"}


def test_what_was_said_outlives_another_diarization(catalog: Catalog) -> None:
    for result in (recording(A, {"S1": 0, "S2": 90}), recording(B, {"S1": 1, "S2": 50})):
        catalog.write_source(result)
    said = LinkRule(True, Stretch(A, 10 * RATE, 20 * RATE), Stretch(B, 10 * RATE, 20 * RATE), "me", WHEN)
    apart = LinkRule(False, Stretch(A, 0, 10 * RATE), Stretch(B, 0, 10 * RATE), "me", WHEN)
    write_link_rules(catalog, [said, apart])
    assert link_rules(catalog) in ([said, apart], [apart, said])
    assert people(link_speakers(catalog)) == {
        frozenset({f"{A}-S1"}), frozenset({f"{B}-S1"}), frozenset({f"{A}-S2", f"{B}-S2"}),
    }  # fmt: skip
    # the voices of A are numbered the other way about now, and their turns have moved a little
    catalog.write_source(recording(A, {"S2": 0, "S1": 90}))
    assert people(link_speakers(catalog)) == {
        frozenset({f"{A}-S2"}), frozenset({f"{B}-S1"}), frozenset({f"{A}-S1", f"{B}-S2"}),
    }  # fmt: skip


# Real voices, and the command


def voices_of(sounds: dict[str, Samples], folder: Path) -> list[LocalSpeaker]:
    """The voices that the speech detector and the embedded diarizer find in recordings."""
    settings = Settings()
    detect, diarize = SpeechDetector(settings.vad), Embedded(settings.diarize)
    found = []
    for name, sound in sounds.items():
        sound.tofile(folder / "sound.f32")
        track = Track(folder / "sound.f32", len(sound))
        diarization = diarize(track, detect(track, lambda share: None), (), lambda share: None)
        for k, vector in (diarization.voices or {}).items():
            spoken = sum(turn.end - turn.start for turn in diarization.turns if turn.speaker == k) / RATE
            found.append(LocalSpeaker(f"{name}-{k}", name, None, "m", spoken, None, tuple(map(float, vector))))
    return found


def test_readers_are_found_across_recordings(clip: Callable[[str], Samples], tmp_path: Path) -> None:
    """Pairwise F1 of 0.95 or better over real voices (benchmarks/speakers.py has the whole material)."""
    sounds: dict[str, Samples] = {}
    for reader in ("2033-164914", "2414-128291", "3080-5032"):
        for n in (0, 1, 2):
            sounds[f"{reader} {n}"] = clip(f"librispeech/{reader}-000{n}.flac")[: 10 * RATE]
    for reader, sentences in (("p225", ("003", "008", "011", "016")), ("p226", ("003", "005", "008", "011"))):
        for n in (0, 2):
            sounds[f"{reader} {n}"] = np.concatenate([clip(f"vctk/{reader}_{s}.flac") for s in sentences[n : n + 2]])
    voices = voices_of(sounds, tmp_path)
    found = link(voices)
    assert len(voices) >= len(sounds)
    pairs = [
        (found[a.local_id] == found[b.local_id], a.source_id.split()[0] == b.source_id.split()[0])
        for i, a in enumerate(voices)
        for b in voices[:i]
        if a.source_id != b.source_id
    ]
    right = sum(linked and same for linked, same in pairs)
    assert right >= 8
    assert 2 * right / (sum(linked for linked, _ in pairs) + sum(same for _, same in pairs)) >= 0.95


def test_merge_split_and_list(corpus: Path, talk: Path, two_speakers: Path, pdid: Pdid) -> None:
    assert query(corpus, "SELECT count(*) FROM base.link")[0][0] >= 5  # ingest has linked them

    def person(local_id: str) -> str:
        return str(query(corpus, f"SELECT speaker_id FROM base.link WHERE local_id = '{local_id}'")[0][0])

    def voices(uri: Path) -> list[str]:
        rows = query(
            corpus,
            "SELECT local_speaker_id FROM segments JOIN sources USING (source_id)"
            f" WHERE kept AND uri = '{uri}' GROUP BY ALL ORDER BY local_speaker_id",
        )
        return [str(row[0]) for row in rows]

    (a,), (b, c) = voices(talk), voices(two_speakers)
    assert len({person(a), person(b), person(c)}) == 3
    merged = pdid("speakers", "merge", a, b, c, "--corpus", corpus, "--json")
    assert merged.code == 0, merged.err
    assert person(a) == person(b) == person(c) == min(a, b, c)
    assert json.loads(merged.out)["speakers"] == json.loads(merged.out)["voices"] - 2
    assert query(corpus, f"SELECT DISTINCT speaker_id FROM segments WHERE local_speaker_id = '{max(a, b, c)}'") == [
        (min(a, b, c),)
    ]
    assert pdid("speakers", "split", a, b, "--corpus", corpus).code == 0  # the newest word holds
    assert person(a) == person(c) != person(b)
    assert pdid("speakers", "split", a, c, "--corpus", corpus).code == 0
    assert person(a) not in (person(b), person(c))
    with open_catalog(corpus) as catalog:
        assert len(link_rules(catalog)) >= 4
    before = query(corpus, "FROM base.link ORDER BY ALL")
    assert pdid("speakers", "link", "--corpus", corpus).code == 0
    assert pdid("ingest", talk, "--corpus", corpus, *EMBEDDED).code == 0
    assert query(corpus, "FROM base.link ORDER BY ALL") == before
    table = pdid("speakers", "--corpus", corpus).out
    listed = [json.loads(line) for line in pdid("speakers", "--corpus", corpus, "--json").out.splitlines()]
    assert {one["speaker_id"] for one in listed} == {row[1] for row in before}
    assert sorted(voice for one in listed for voice in one["voices"]) == [row[0] for row in before]
    assert all(one["speaker_id"] in table for one in listed)


def test_a_name_in_the_sources_file_links_without_touching_any_audio(
    corpus: Path, talk: Path, make_wav: MakeWav, pdid: Pdid, tmp_path: Path
) -> None:
    other = make_wav("other.wav", "librispeech/2033-164914-0001.flac")
    assert pdid("ingest", other, "--corpus", corpus, *EMBEDDED).code == 0
    people = (
        "SELECT DISTINCT segments.speaker_id FROM segments JOIN sources USING (source_id)"
        f" WHERE kept AND uri IN ('{talk}', '{other}')"
    )
    assert len(query(corpus, people)) == 2
    done = finished(corpus)
    sheet = tmp_path / "sources.csv"
    sheet.write_text(f"source,speaker\n{talk},host-7\n{other},host-7\n", "utf-8")
    again = pdid("ingest", "--sources", sheet, "--corpus", corpus, *EMBEDDED)
    assert again.code == 0, again.err
    assert len(query(corpus, people)) == 1
    assert finished(corpus) == done
    sheet.write_text(f"source,speaker\n{talk},host-7\n{other},host-8\n", "utf-8")
    assert pdid("ingest", "--sources", sheet, "--corpus", corpus, *EMBEDDED).code == 0
    assert len(query(corpus, people)) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("merge", "x-S1"), "two different speakers"),
        (("merge", "x-S1", "x-S1"), "two different speakers"),
        (("split", "x-S1", "y-S1"), "no speaker 'x-S1'"),
        (("--json", "link"), "write options after the word"),
    ],
)
def test_wrong_usage_is_told(ingested: Path, pdid: Pdid, words: tuple[str, ...], message: str) -> None:
    done = pdid("speakers", *words, *(() if "--json" in words else ("--corpus", ingested)))
    assert done.code == 2
    assert message in done.err


def test_there_is_no_corpus(pdid: Pdid, tmp_path: Path) -> None:
    for words in (("link",), ("merge", "a", "b"), ()):
        done = pdid("speakers", *words, "--corpus", tmp_path / "none")
        assert done.code == 2
        assert "there is no catalog" in done.err
    assert not (tmp_path / "none").exists()
