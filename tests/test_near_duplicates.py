"""Clips with the same sound are found however they were encoded and cut, and different sentences are told apart."""

from __future__ import annotations

import json
import random
import resource
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.duplicates import (
    clips_without_fingerprint,
    count_without_fingerprint,
    duplicates,
    fingerprints,
    fingerprints_are_stale,
    write_fingerprints,
)
from catalog.errors import PdidError
from catalog.records import RATE, Duplicate
from catalog.store import Catalog, open_catalog
from corpus_builder.audio import Decoder, Samples
from corpus_builder.fingerprint import FRAME_S, HOP_S, METHOD, Hashes, fingerprint
from corpus_builder.matches import NEIGHBOURS, PART, SAME, SAME_ALL, SHORTEST_S, WINDOW, Match, find_matches, joined
from corpus_builder.near_duplicates import MEMORY, gather, near_duplicates, update_duplicates
from corpus_builder.piles import Pile
from tests.catalog_rows import kept, make_result, make_source
from tests.media import EMBEDDED, Pdid, convert, query, write_wav

READ = "librispeech/1998-15444-000{}.flac"  # one reader, five sentences
CODECS = {
    "mp3": (".mp3", "-b:a", "32k"),
    "aac": (".m4a", "-ar", "22050", "-b:a", "24k"),
    "opus": (".opus", "-b:a", "16k"),
    "telephone": (".wav", "-ar", "8000"),
}


NOWHERE = Path("/nowhere")  # for scratch files, where there must be none


def matches(prints: Sequence[Hashes], scratch: Path = NOWHERE, part: int = PART) -> list[Match]:
    return list(find_matches(joined(prints), scratch, part))


def stored(catalog: Catalog, method: str = METHOD) -> dict[str, Hashes]:
    return {name: words for page in fingerprints(catalog, method) for name, words in page.items()}


def pairs_of(prints: Mapping[str, Hashes], *pages: Mapping[str, Hashes]) -> list[Duplicate]:
    with closing(Pile(NOWHERE, np.uint32, PART)) as words:
        number, pairs = near_duplicates(*gather([prints, *pages], words), NOWHERE)
        found = list(pairs)
    assert len(found) == number
    return found


@pytest.fixture(scope="module")
def sentences(clip: Callable[[str], Samples]) -> list[Samples]:
    """The first six seconds of five sentences of one reader, and of five by five readers."""
    names = [READ.format(n) for n in range(5)]
    others = ["2033-164914-0000", "2414-128291-0001", "2609-156975-0002", "3005-163389-0000", "3331-159605-0000"]
    return [clip(name)[: 6 * RATE] for name in (*names, *(f"librispeech/{other}.flac" for other in others))]


@pytest.fixture(scope="module")
def prints(sentences: list[Samples]) -> list[Hashes]:
    return [fingerprint(sound) for sound in sentences]


def test_different_sentences_of_one_reader_are_no_pair(prints: list[Hashes]) -> None:
    assert all(len(words) == 436 for words in prints)  # every 12.8 ms, from 0.4 s on
    assert matches(prints) == []


@pytest.mark.parametrize("codec", CODECS)
def test_a_re_upload_cut_elsewhere_is_found(
    codec: str, sentences: list[Samples], prints: list[Hashes], tmp_path: Path
) -> None:
    """Other loudness, other cut points, resampled and encoded at a low rate: the seconds shared are the true ones."""
    ending, *options = CODECS[codec]
    again = []
    for n, sound in enumerate(sentences):
        cut = sound[RATE + 777 * n : 5 * RATE] * 0.3
        path = convert(write_wav(tmp_path / f"{n}.wav", cut), tmp_path / f"{n}-again{ending}", *options)
        again.append(fingerprint(np.concatenate([block[:, 0] for block in Decoder(path, RATE)])))
    found = matches([*prints, *again])
    assert [(match.a, match.b) for match in found] == [(n, n + 10) for n in range(10)]
    for n, match in enumerate(found):
        shared = 4 - 777 * n / RATE
        assert shared - 1.5 < match.seconds < shared + 0.1
        assert 0.6 < match.score <= 1


def test_a_little_noise_does_not_hide_it(sentences: list[Samples], prints: list[Hashes]) -> None:
    rng = np.random.default_rng(0)
    noisy = []
    for sound in sentences:
        level = np.sqrt(np.mean(sound**2)) / 10  # 20 dB under the speech
        noisy.append(fingerprint((sound[RATE:] + rng.normal(0, level, len(sound) - RATE)).astype(np.float32)))
    assert [(m.a, m.b) for m in matches([*prints, *noisy])] == [(n, n + 10) for n in range(10)]


def test_a_jingle_in_many_clips_makes_one_chain(sentences: list[Samples]) -> None:
    """Three seconds in each of 100 clips, at another place in each: far fewer pairs than 4950, and all connected."""
    jingle = sentences[5][2 * RATE : 5 * RATE]
    dice = np.random.default_rng(1)
    clips = []
    for _ in range(100):
        before = dice.normal(0, 0.05, dice.integers(RATE, 3 * RATE)).astype(np.float32)
        after = dice.normal(0, 0.05, dice.integers(RATE, 3 * RATE)).astype(np.float32)
        clips.append(fingerprint(np.concatenate([before, jingle, after])))
    found = matches(clips)
    assert 99 <= len(found) < 2000
    reached = {0}
    for _ in range(100):
        reached |= {end for m in found if {m.a, m.b} & reached for end in (m.a, m.b)}
    assert reached == set(range(100))
    assert all(SHORTEST_S <= match.seconds < 4.0 for match in found)


def test_less_than_two_seconds_in_common_is_no_pair(sentences: list[Samples]) -> None:
    word = sentences[0][2 * RATE : 3 * RATE]
    clips = [np.concatenate([sentences[n][: 3 * RATE], word, sentences[n][3 * RATE :]]) for n in (5, 6)]
    assert matches([fingerprint(sound) for sound in clips]) == []


def test_silence_and_scraps_have_nothing_in_common() -> None:
    quiet = [np.zeros(5 * RATE, np.float32) for _ in range(3)]
    assert all(not fingerprint(sound).any() for sound in quiet)
    assert matches([fingerprint(sound) for sound in quiet]) == []
    assert len(fingerprint(np.ones(RATE // 10, np.float32))) == 0
    assert matches([]) == []
    assert matches([fingerprint(np.zeros(10, np.float32))]) == []


def test_a_long_clip_is_the_same_in_blocks(clip: Callable[[str], Samples]) -> None:
    """Words do not depend on where a block of frames ends: a later start gives the same words, later."""
    long = np.concatenate([clip(READ.format(n)) for n in range(4)])[: 30 * RATE]
    whole = fingerprint(long)
    assert 2250 < len(whole) < 2350  # 30 s, a word every 12.8 ms
    step = 16 * RATE * 64 // 5000  # frames are 64 samples apart at 5 kHz: 16 of them are whole samples at 16 kHz
    part = fingerprint(long[step:])
    loud = (whole[16 + 4 : 16 + len(part) - 4] != 0) & (part[4:-4] != 0)
    different = np.bitwise_count(whole[16 + 4 : 16 + len(part) - 4] ^ part[4:-4])[loud]
    assert different.mean() / 32 < 0.01


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_the_order_of_the_clips_plays_no_part(seed: int, dice: random.Random) -> None:
    """Random words stand for clips; three of them share 200 words."""
    rng = np.random.default_rng(seed)
    prints = {f"c{n:02d}": rng.integers(1, 2**32, int(rng.integers(200, 500)), np.uint32) for n in range(12)}
    shared = rng.integers(1, 2**32, 200, np.uint32)
    for name in ("c03", "c07", "c11"):
        at = int(rng.integers(0, len(prints[name])))
        prints[name] = np.concatenate([prints[name][:at], shared, prints[name][at:]])
    found = pairs_of(prints)
    assert {(pair.segment_a, pair.segment_b) for pair in found} >= {("c03", "c07"), ("c07", "c11")}
    assert {name for pair in found for name in (pair.segment_a, pair.segment_b)} == {"c03", "c07", "c11"}
    names = dice.sample(sorted(prints), len(prints))
    assert pairs_of({name: prints[name] for name in names}) == found
    assert pairs_of(*({name: prints[name]} for name in names)) == found


def all_at_once(prints: Sequence[Hashes]) -> list[Match]:
    """What `find_matches` finds, with everything in memory and in one sort: the way it was done first."""
    best: dict[tuple[int, int], Match] = {}
    for a, b, offset in candidates_at_once(prints):
        match = compared_at_once(prints[a], prints[b], offset)
        if match is not None and match[0] > best.get((a, b), Match(a, b, 0.0, 0.0)).seconds:
            best[a, b] = Match(a, b, *match)
    return [best[pair] for pair in sorted(best)]


def candidates_at_once(prints: Sequence[Hashes]) -> Iterator[tuple[int, int, int]]:
    lengths = np.array([len(words) for words in prints])
    word = np.concatenate(prints)
    clip = np.repeat(np.arange(len(prints), dtype=np.int64), lengths)
    frame = np.arange(len(word), dtype=np.int64) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    loud = word != 0
    key = (word[loud].astype(np.uint64) << np.uint64(32)) | clip[loud].astype(np.uint64)
    key, first = np.unique(key, return_index=True)
    word, clip, frame = (key >> np.uint64(32)).astype(np.uint32), clip[loud][first], frame[loud][first]
    pairs, offsets = [], []
    for step in range(1, NEIGHBOURS + 1):
        (at,) = np.nonzero(word[step:] == word[:-step])
        pairs.append(clip[at] * len(prints) + clip[at + step])
        offsets.append(frame[at] - frame[at + step])
    pair, offset = np.concatenate(pairs), np.concatenate(offsets)
    order = np.lexsort((offset, pair))
    pair, offset = pair[order], offset[order]
    (ends,) = np.nonzero(np.append((np.diff(pair) != 0) | (np.diff(offset) > 2), True))
    starts = np.append(0, ends[:-1] + 1)
    for start, end in zip(starts[ends > starts], ends[ends > starts], strict=True):
        a, b = divmod(int(pair[start]), len(prints))
        yield a, b, int(offset[(start + end) // 2])


def compared_at_once(a: Hashes, b: Hashes, offset: int) -> tuple[float, float] | None:
    start, end = max(0, offset), min(len(a), offset + len(b))
    if end - start < WINDOW:
        return None
    left, right = a[start:end], b[start - offset : end - offset]
    heard = (left != 0) & (right != 0)
    different = np.where(heard, np.bitwise_count(left ^ right), 0)
    shared = heard.copy()
    for size in (WINDOW, WINDOW // 5):
        n, wrong = (np.convolve(values, np.ones(size, int), "valid") for values in (heard, different))
        good = (n >= size // 2) & (wrong <= 32 * SAME * n)
        shared &= np.convolve(good, np.ones(size, int)) > 0
    (at,) = np.nonzero(shared)
    if len(at) * HOP_S + FRAME_S < SHORTEST_S:
        return None
    span = slice(int(at[0]), int(at[-1]) + 1)
    share = float(different[span].sum() / heard[span].sum() / 32)
    return ((span.stop - span.start) * HOP_S + FRAME_S, 1 - 2 * share) if share <= SAME_ALL else None


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([3, 6, 32]), st.sampled_from([1, 100, 1500, 20_000]))
def test_parts_of_any_size_give_the_same_pairs(
    tmp_path_factory: pytest.TempPathFactory, seed: int, bits: int, part: int
) -> None:
    """Words of few bits: each in nearly every clip, many times over, and every clip like every other one."""
    rng = np.random.default_rng(seed)
    shared = rng.integers(1, 2**bits, 250, np.uint32)
    prints = []
    for n in range(int(rng.integers(2, 25))):
        words = rng.integers(0, 2**bits, int(rng.choice([0, 1, 130, 300])), np.uint32)
        if n % 3 == 0:
            words = np.concatenate([words, shared, words[:7]])
        prints.append(words)
    scratch = tmp_path_factory.mktemp("scratch")
    expected = all_at_once(prints)
    assert matches(prints, scratch, part) == expected
    assert matches(prints) == expected
    assert list(scratch.iterdir()) == []
    if len(prints) > 6:
        assert expected


def test_real_clips_give_the_same_pairs_in_parts(prints: list[Hashes], tmp_path: Path) -> None:
    """Each clip also with other words before it, and cut, with a bit in twenty wrong; told in any order, in pages."""
    rng = np.random.default_rng(2)
    many = list(prints)
    for n, words in enumerate(prints * 6):
        wrong = rng.random((len(words), 32)) < 0.05
        heard = words ^ np.packbits(wrong, axis=1).view(np.uint32)[:, 0]
        many.append(np.concatenate([prints[n * 7 % 10][: n * 5], heard[n:]]))
    expected = all_at_once(many)
    assert len(expected) > 100
    for part in (100, 5000, PART):
        assert matches(many, tmp_path, part) == expected
    order = rng.permutation(len(many))
    pages = [{f"c{n:02d}": many[n] for n in order[start : start + 9]} for start in range(0, len(many), 9)]
    with closing(Pile(tmp_path, np.uint32, 5000)) as words_of_all:
        names, stored_prints = gather([{}, *pages], words_of_all)
        _, pairs = near_duplicates(names, stored_prints, tmp_path, 5000)
        found = list(pairs)
    assert found == [Duplicate(f"c{m.a:02d}", f"c{m.b:02d}", m.seconds, m.score) for m in expected]
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_one_sentence(prints: list[Hashes], tmp_path: Path) -> None:
    many = prints * 4
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**15, limits[1]))
    try:
        with pytest.raises(
            PdidError, match=r"has no room for scratch files \(File too large\): make room there \(some"
        ):
            matches(many, tmp_path, 100)
        with closing(Pile(tmp_path, np.uint32, 100)) as words, pytest.raises(PdidError, match="has no room"):
            gather([{str(n): one for n, one in enumerate(many)}], words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(PdidError, match=r"'/nowhere' has no room for scratch files \(No such file"):
        matches(many, NOWHERE, 100)


@pytest.mark.parametrize("page", [1, 2, 100])
def test_fingerprints_and_pairs_are_stored_and_go_with_their_clips(
    page: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catalog.duplicates.PAGE", page)
    other = "00000000000000ff"
    words = np.array([1, 0, 2**32 - 1], np.uint32)
    with open_catalog(tmp_path, write=True) as catalog:
        catalog.write_source(make_result(kept(0), kept(1)))
        catalog.write_source(make_result(kept(0, other), source=make_source(other)))
        a, b, c = sorted([kept(0).segment_id, kept(1).segment_id, kept(0, other).segment_id])
        assert set(clips_without_fingerprint(catalog, METHOD)) == {a, b, c}
        assert list(clips_without_fingerprint(catalog, METHOD, a, 1)) == [b]
        assert list(clips_without_fingerprint(catalog, METHOD, c)) == []
        assert count_without_fingerprint(catalog, METHOD) == 3
        pair = Duplicate(a, c, 4.5, 0.75)
        write_fingerprints(catalog, METHOD, {a: words, b: words[:0], c: words}, [pair])
        assert clips_without_fingerprint(catalog, METHOD) == {}
        assert count_without_fingerprint(catalog, METHOD) == 0
        prints = stored(catalog)
        assert list(prints) == [a, b, c]
        assert prints[a].dtype == np.uint32
        assert [list(words) for words in prints.values()] == [[1, 0, 2**32 - 1], [], [1, 0, 2**32 - 1]]
        assert duplicates(catalog) == [pair]
        assert not fingerprints_are_stale(catalog, METHOD)
        assert fingerprints_are_stale(catalog, "another")
        catalog.write_source(make_result(kept(7, other), source=make_source(other)))
        assert fingerprints_are_stale(catalog, METHOD)
        with pytest.raises(PdidError):  # all or nothing
            write_fingerprints(catalog, METHOD, {"new": words}, [Duplicate(b, a, 1.0, 0.5)])
        assert list(stored(catalog)) == [n for n in (a, b, c) if not n.startswith(other)]
        assert duplicates(catalog) == [pair]
        write_fingerprints(catalog, METHOD, {}, [])
        assert duplicates(catalog) == []
        assert not fingerprints_are_stale(catalog, METHOD)


def test_what_duckdb_may_keep_in_memory_is_said(tmp_path: Path) -> None:
    """It keeps all that it has read, else: the fingerprints of a big corpus are gigabytes."""
    with open_catalog(tmp_path, write=True, memory="200MiB") as catalog:
        assert catalog.all("SELECT current_setting('memory_limit')") == [("200.0 MiB",)]
    with open_catalog(tmp_path, memory=MEMORY) as catalog:
        assert catalog.all("SELECT current_setting('memory_limit')") == [("256.0 MiB",)]


def test_a_re_upload_in_a_corpus_is_found_and_stays_on_one_side(
    pdid: Pdid, talk: Path, corpus: Path, tmp_path: Path
) -> None:
    """The same talk, cut and encoded anew: another recording by its bytes, one group with the first in a split."""
    again = convert(talk, tmp_path / "again.mp3", "-ss", "1.3", "-b:a", "32k", "-filter:a", "volume=0.4")
    assert query(corpus, "SELECT * FROM duplicates") == []
    done = pdid("ingest", again, "--corpus", corpus, *EMBEDDED)
    assert done.code == 0, done.err
    assert "near-duplicates: 1 clips looked at, 1 pairs share sound" in done.err
    said = pdid("sql", "@near_duplicates", "--corpus", corpus, "--json")
    (row,) = map(json.loads, said.out.splitlines())
    assert {Path(row["recording_a"]).name, Path(row["recording_b"]).name} == {"talk.wav", "again.mp3"}
    assert row["overlap_s"] > 10
    assert row["same_recording"] is False
    with open_catalog(corpus) as catalog:
        before = {clip.segment_id for clip in catalog.clips()}
        assert set(stored(catalog)) == before
    first, second = row["segment_a"], row["segment_b"]
    assert pdid("split", "--corpus", corpus).code == 0
    sides = query(corpus, f"SELECT DISTINCT split FROM splits WHERE segment_id IN ('{first}', '{second}')")
    assert len(sides) == 1
    nothing = pdid("ingest", talk, "--corpus", corpus, *EMBEDDED)
    assert "near-duplicates" not in nothing.err
    # a clip that is gone takes its fingerprint and its pairs along, at the next split at the latest
    with open_catalog(corpus, write=True) as catalog:
        source = next(source for source in catalog.sources() if source.uri.endswith("again.mp3"))
        catalog.write_source(make_result(source=source))
    shutil.rmtree(corpus / "clips" / source.source_id)
    told: list[str] = []
    update_duplicates(corpus, told.append)
    assert told == ["near-duplicates: 0 clips looked at, 0 pairs share sound"]
    assert query(corpus, "SELECT * FROM duplicates") == []
    told.clear()
    update_duplicates(corpus, told.append)
    assert told == []


def test_clips_without_files_are_told_of(tmp_path: Path) -> None:
    with open_catalog(tmp_path, write=True) as catalog:
        catalog.write_source(make_result(kept(0), kept(1)))
        path = tmp_path / (kept(0).path or "")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no sound")
    told: list[str] = []
    update_duplicates(tmp_path, told.append)
    assert told == ["near-duplicates: the files of 2 clips can't be read; what they share is not known"]
