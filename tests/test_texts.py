"""Which text a piece shows: whole, of one origin, the newest, and the same however it came in."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.annotations import transcripts, write_transcripts
from catalog.records import RATE, Mark, Segment, SourceResult, Transcript
from catalog.resolve import COVERED, SLACK
from catalog.store import Catalog, open_catalog
from tests.catalog_rows import SOURCE_ID, kept, make_result, make_source

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def said(start_s: float, end_s: float, text: str, day: int = 0, **more: object) -> Transcript:
    values = {"origin": "imported", "created_at": NOON + timedelta(days=day), **more}
    return Transcript(SOURCE_ID, round(start_s * RATE), round(end_s * RATE), text, **values)  # type: ignore[arg-type]


def cut(
    *edges: tuple[float, float], speech: tuple[tuple[float, float], ...] = (), language: str | None = None
) -> SourceResult:
    """A recording cut into kept pieces at these seconds, with speech found in it."""
    pieces: list[Segment] = [
        kept(
            n, segment_id=f"P{start:g}-{end:g}", start=round(start * RATE), end=round(end * RATE), path=f"clips/{n}.wav"
        )
        for n, (start, end) in enumerate(edges)
    ]
    result = make_result(*pieces, source=make_source(language=language))
    marks = tuple(Mark("speech", round(a * RATE), round(b * RATE)) for a, b in speech)
    return SourceResult(result.source, result.addresses, marks=marks, segments=result.segments)


def shown(catalog: Catalog) -> dict[str, str | None]:
    """The text of each kept piece."""
    return dict(catalog.query("SELECT segment_id, text FROM segments WHERE kept ORDER BY start_s").rows)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with open_catalog(tmp_path, write=True) as catalog:
        yield catalog


def check(catalog: Catalog, result: SourceResult, texts: list[Transcript], expected: dict[str, str | None]) -> None:
    catalog.write_source(result)
    write_transcripts(catalog, texts)
    assert shown(catalog) == expected


def test_cues_in_a_piece_are_joined_in_order(catalog: Catalog) -> None:
    texts = [said(8, 10, "three"), said(5.2, 6.5, "one"), said(6.5, 8, "two"), said(20, 22, "elsewhere")]
    check(catalog, cut((5, 10), (12, 17)), texts, {"P5-10": "one two three", "P12-17": None})


def test_a_text_over_the_edge_is_not_shown(catalog: Catalog) -> None:
    """Its words can't be parted, so both pieces would have too many or too few."""
    check(catalog, cut((0, 5), (5, 10)), [said(0, 6, "a b c"), said(6, 10, "d")], {"P0-5": None, "P5-10": None})


def test_a_text_may_miss_the_edge_a_little(catalog: Catalog) -> None:
    check(catalog, cut((0, 5), (5, 10)), [said(0, 5.2, "a"), said(5.1, 9.8, "b")], {"P0-5": "a", "P5-10": "b"})


def test_half_a_piece_is_not_a_text(catalog: Catalog) -> None:
    check(catalog, cut((0, 10)), [said(0, 5, "half")], {"P0-10": None})


def test_silence_needs_no_text(catalog: Catalog) -> None:
    """Subtitles begin before the words and linger after them: what counts is the speech under them."""
    result = cut((0, 6), (6.5, 12), speech=((1, 4.5), (8, 11.5)))
    check(catalog, result, [said(0.2, 7.5, "one"), said(7.5, 14, "two")], {"P0-6": "one", "P6.5-12": "two"})


def test_overlapping_cues_do_not_count_twice(catalog: Catalog) -> None:
    """Twice the first half is not the whole."""
    texts = [said(0, 5, "one"), said(0.1, 5.1, "at once"), said(0.2, 5, "with others")]
    check(catalog, cut((0, 10)), texts, {"P0-10": None})


def test_words_survive_a_new_segmentation(catalog: Catalog) -> None:
    texts = [said(0, 5, "سلام،", origin="human"), said(5.5, 10, "خوبم", 1, origin="human")]
    check(catalog, cut((0, 5), (5.5, 10)), texts, {"P0-5": "سلام،", "P5.5-10": "خوبم"})
    check(catalog, cut((0, 10)), [], {"P0-10": "سلام، خوبم"})
    check(catalog, cut((0, 3), (3, 7), (7, 10)), [], {"P0-3": None, "P3-7": None, "P7-10": None})
    check(catalog, cut((0, 5.1), (5.3, 10.1)), [], {"P0-5.1": "سلام،", "P5.3-10.1": "خوبم"})
    assert len(transcripts(catalog)) == 2  # nothing that was said is lost on the way


def test_a_newer_text_takes_an_older_ones_place(catalog: Catalog) -> None:
    check(catalog, cut((0, 5)), [said(0, 5, "old", confidence=0.9), said(0.1, 5, "new", 1)], {"P0-5": "new"})
    assert [text.text for text in transcripts(catalog)] == ["old", "new"]


def test_finer_texts_take_a_coarse_ones_place(catalog: Catalog) -> None:
    texts = [said(0, 10, "all of it"), said(0, 5, "first", 1), said(5, 10, "second", 1)]
    check(catalog, cut((0, 5), (5, 10)), texts, {"P0-5": "first", "P5-10": "second"})
    check(catalog, cut((0, 10)), [], {"P0-10": "first second"})


def test_a_correction_of_a_part_does_not_hide_the_whole(catalog: Catalog) -> None:
    texts = [said(0, 10, "all of it"), said(0, 3, "first", 1)]
    check(catalog, cut((0, 3), (3, 10)), texts, {"P0-3": "first", "P3-10": None})
    check(catalog, cut((0, 10)), [], {"P0-10": "all of it"})


def test_people_before_imports_before_subtitles_before_models(catalog: Catalog) -> None:
    catalog.write_source(cut((0, 5)))
    order = ["model:small", "subtitle", "imported", "human"]
    for day, origin in enumerate(order):
        write_transcripts(catalog, [said(0, 5, origin, -day, origin=origin, confidence=0.5)])
        assert shown(catalog) == {"P0-5": origin}
    answer = catalog.query("SELECT text_origin, text_confidence, text_flags, language FROM segments")
    assert list(answer.rows) == [("human", 0.5, [], None)]


def test_of_two_models_the_one_that_did_not_loop_then_the_surer(catalog: Catalog) -> None:
    catalog.write_source(cut((0, 5)))
    for text in (
        said(0, 5, "na na na", 3, origin="model:c", confidence=0.99, flags=("loop",)),
        said(0, 5, "less sure", 2, origin="model:b", confidence=0.4),
        said(0, 5, "surer", 1, origin="model:a", confidence=0.7),
    ):
        write_transcripts(catalog, [text])
    assert shown(catalog) == {"P0-5": "surer"}


def test_a_translation_is_no_transcript(catalog: Catalog) -> None:
    texts = [
        said(0, 5, "hello", 1, origin="human", language="en"),
        said(0, 5, "سلام", 0, origin="subtitle", language="fa"),
    ]
    check(catalog, cut((0, 5), language="fa-IR"), texts, {"P0-5": "سلام"})


def test_two_languages_are_never_mixed(catalog: Catalog) -> None:
    texts = [said(0, 5, "سلام", language="fa"), said(5, 10, "there", language="en"), said(0, 5, "hello", language="en")]
    check(catalog, cut((0, 5), (5, 10)), texts[:2], {"P0-5": "سلام", "P5-10": "there"})
    check(catalog, cut((0, 10)), texts[2:], {"P0-10": "hello there"})


def test_that_nothing_is_said_is_said_too(catalog: Catalog) -> None:
    check(catalog, cut((0, 5)), [said(0, 5, "", origin="model:x", confidence=0.8)], {"P0-5": ""})


# ---------------------------------------------------------------- whatever comes


@st.composite
def recordings(draw: st.DrawFn) -> tuple[SourceResult, list[Transcript]]:
    """Pieces, speech and texts at random times; each text is one word that is nowhere else."""
    tenths = st.integers(0, 600)
    edges = sorted(draw(st.sets(tenths, min_size=2, max_size=8)))
    pieces = [(a / 10, b / 10) for a, b in pairwise(edges) if 30 <= b - a <= 300]
    speech = sorted(draw(st.sets(tenths, max_size=12)))
    marks = tuple((a / 10, b / 10) for a, b in zip(speech[::2], speech[1::2], strict=False))
    texts = []
    for n in range(draw(st.integers(0, 12))):
        start, length = draw(tenths), draw(st.integers(1, 120))
        origin = draw(st.sampled_from(["imported", "subtitle"]))
        texts.append(said(start / 10, (start + length) / 10, f"w{n}", draw(st.integers(0, 2)), origin=origin))
    return cut(*pieces, speech=marks), texts


@pytest.fixture(scope="module")
def reused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    """A catalog that is emptied for each example: making one takes longer than all else."""
    with open_catalog(tmp_path_factory.mktemp("reused"), write=True) as catalog:
        yield catalog


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recordings(), st.integers(0, 3))
def test_a_shown_text_is_whole_and_the_pieces_own(
    reused: Catalog, found: tuple[SourceResult, list[Transcript]], seed: int
) -> None:
    result, texts = found
    reused.connection.execute("DELETE FROM base.transcript")
    reused.write_source(result)
    write_transcripts(reused, texts)
    once = shown(reused)
    origins = dict(reused.query("SELECT segment_id, text_origin FROM segments").rows)
    by_word = {text.text: text for text in texts}
    speech = [(mark.start, mark.end) for mark in result.marks]
    for piece in result.segments:
        if (words := once[piece.segment_id]) is None:
            continue
        chosen = [by_word[word] for word in words.split()]
        assert len(chosen) == len(set(words.split())) > 0
        assert {text.origin for text in chosen} == {origins[piece.segment_id]}
        spoken = [
            (max(a, piece.start), min(b, piece.end)) for a, b in speech or [(piece.start, piece.end)]
            if a < piece.end and piece.start < b
        ]  # fmt: skip
        for text in chosen:
            heard = [(max(a, text.start), min(b, text.end)) for a, b in speech if a < text.end and text.start < b]
            first, last = (min(a for a, _ in heard), max(b for _, b in heard)) if heard else (text.start, text.end)
            assert first >= piece.start - SLACK
            assert last <= piece.end + SLACK
        tenth = RATE // 10
        instants = [t for a, b in spoken for t in range(a, b, tenth)]
        covered = [any(x.start - SLACK <= t < x.end + SLACK for x in chosen) for t in instants]
        assert sum(covered) >= (COVERED - 1e-9) * len(instants)
    # the order in which it was said and cut plays no part, nor how much is settled at a time
    shuffled = random.Random(seed).sample(texts, len(texts))
    reused.connection.execute("DELETE FROM base.transcript")
    write_transcripts(reused, shuffled[: len(texts) // 2])
    reused.write_source(result)
    write_transcripts(reused, shuffled[len(texts) // 2 :])
    assert shown(reused) == once
