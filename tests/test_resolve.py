"""What holds for each piece, out of all that is said: the most specific accent, the best text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.annotations import labels, transcripts, write_judgements, write_labels, write_transcripts
from catalog.errors import PdidError
from catalog.records import RATE, Label, LabelOrigin, Mark, Scope, Segment, Transcript
from catalog.resolve import resolve
from catalog.store import Catalog, open_catalog
from tests.catalog_rows import SOURCE_ID, WHEN, kept, make_result, make_source

OTHER = "f" * 16
ANNOTATOR, SPEAKER, CLASSIFIER = LabelOrigin.ANNOTATOR, LabelOrigin.SPEAKER, LabelOrigin.CLASSIFIER


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with open_catalog(tmp_path / "corpus", write=True) as opened:
        yield opened


def label(accent: str, start_s: float | None = None, end_s: float | None = None, **changes: Any) -> Label:
    """A label of a stretch, or of the whole recording."""
    made = Label(
        SOURCE_ID,
        Scope.SOURCE if start_s is None else Scope.SEGMENT,
        None if start_s is None else round(start_s * RATE),
        None if end_s is None else round(end_s * RATE),
        accent.lower(),
        accent,
        ANNOTATOR,
        "ann",
        WHEN,
    )
    return replace(made, **changes)


def text(words: str, start_s: float, end_s: float, origin: str = "imported", days: int = 0, **rest: Any) -> Transcript:
    when = WHEN + timedelta(days=days)
    return Transcript(SOURCE_ID, round(start_s * RATE), round(end_s * RATE), words, origin, when, **rest)


def piece(number: int, start_s: float, end_s: float, speaker: str = "S1") -> Segment:
    return kept(number, start=round(start_s * RATE), end=round(end_s * RATE), speaker_id=f"{SOURCE_ID}-{speaker}")


def accents(catalog: Catalog) -> list[tuple[str | None, str | None]]:
    """Accent and its origin of each piece, in order of time."""
    return list(catalog.query("SELECT accent, accent_origin FROM segments ORDER BY source_id, start_s").rows)


def texts(catalog: Catalog) -> list[str | None]:
    return [row[0] for row in catalog.query("SELECT text FROM segments ORDER BY source_id, start_s").rows]


# Accents


def test_the_most_specific_label_holds(catalog: Catalog) -> None:
    catalog.write_source(
        make_result(
            piece(0, 0, 5), piece(1, 5, 10), piece(2, 10, 15, "S2"), piece(3, 15, 20, "S2"),
            source=make_source(accent="Yazdi"),
        )
    )  # fmt: skip
    assert accents(catalog) == [("Yazdi", "source metadata")] * 4
    write_labels(catalog, [label("Lori", 11, 14, scope=Scope.SPEAKER, origin=CLASSIFIER, confidence=0.4)])
    assert accents(catalog)[1:] == [("Yazdi", "source metadata"), *[("Lori", "classifier")] * 2]
    write_labels(catalog, [label("Kurdish", 15, 20, origin=CLASSIFIER, confidence=0.1)])
    assert accents(catalog) == [
        ("Yazdi", "source metadata"),
        ("Yazdi", "source metadata"),
        ("Lori", "classifier"),
        ("Kurdish", "classifier"),
    ]


def test_of_one_scope_people_go_before_metadata_and_that_before_machines(catalog: Catalog) -> None:
    catalog.write_source(make_result(piece(0, 0, 5), source=make_source(accent="Yazdi")))
    said = [
        (label("Kurdish", origin=CLASSIFIER, author="net", confidence=0.99), "Yazdi"),  # the source's own goes above
        (label("Lori", origin=SPEAKER, author="list"), "Lori"),
        (label("Tajiki", author="one", confidence=0.2), "Tajiki"),
        (label("Shirazi", author="two", confidence=0.9), "Shirazi"),  # surer
        (label("Jonubi", author="three"), "Shirazi"),  # does not say how sure
        (label("Balochi", author="four", confidence=0.9, created_at=WHEN + timedelta(1)), "Balochi"),  # newer
    ]
    for one, holds in said:
        write_labels(catalog, [one])
        assert accents(catalog)[0][0] == holds
    assert len(labels(catalog)) == len(said)


def test_what_an_author_says_later_goes_above_what_was_said_before(catalog: Catalog) -> None:
    catalog.write_source(make_result(piece(0, 0, 5)))
    write_labels(catalog, [label("Lori", 0, 5, confidence=0.9)])
    write_labels(catalog, [label("Yazdi", 0, 5, confidence=0.3, created_at=WHEN + timedelta(1))])
    assert accents(catalog) == [("Yazdi", "annotator")]
    assert [one.accent for one in labels(catalog)] == ["Lori", "Yazdi"]  # both are kept


def test_a_label_comes_once_however_often_it_is_written(catalog: Catalog) -> None:
    catalog.write_source(make_result(piece(0, 0, 5)))
    for _ in range(3):
        write_labels(catalog, [label("Lori", 0, 5), label("Lori")])
    assert labels(catalog, [SOURCE_ID]) == labels(catalog)
    assert {one.scope for one in labels(catalog)} == {Scope.SOURCE, Scope.SEGMENT}
    assert labels(catalog, [OTHER]) == []


def test_a_speakers_label_stays_with_the_voice_when_speakers_are_numbered_anew(catalog: Catalog) -> None:
    catalog.write_source(make_result(piece(0, 0, 5), piece(1, 5, 10, "S2"), piece(2, 10, 15)))
    write_labels(catalog, [label("Lori", 5, 10, scope=Scope.SPEAKER, origin=SPEAKER)])
    assert [accent for accent, _ in accents(catalog)] == [None, "Lori", None]
    # the other voice is S1 now, cuts have moved, and the guest is heard twice
    catalog.write_source(
        make_result(piece(3, 0, 4.5, "S2"), piece(4, 4.5, 9, "S1"), piece(5, 9, 13, "S2"), piece(6, 13, 17, "S1"))
    )
    assert [accent for accent, _ in accents(catalog)] == [None, "Lori", None, "Lori"]


def test_labels_of_stretches_outlive_a_segmentation(catalog: Catalog) -> None:
    catalog.write_source(make_result(piece(0, 0, 20), piece(1, 20, 40)))
    write_labels(catalog, [label("Lori", 0, 20), label("Yazdi", 20, 40)])
    catalog.write_source(make_result(*(piece(n, n * 5, n * 5 + 5) for n in range(8))))  # cut up
    assert [accent for accent, _ in accents(catalog)] == ["Lori"] * 4 + ["Yazdi"] * 4
    write_labels(catalog, [label("Kurdish", n * 5, n * 5 + 5, created_at=WHEN + timedelta(1)) for n in range(4)])
    catalog.write_source(make_result(piece(8, 0, 20), piece(9, 15, 30), piece(10, 30, 39)))  # joined
    assert [accent for accent, _ in accents(catalog)] == ["Kurdish", "Yazdi", "Yazdi"]
    catalog.write_source(make_result(piece(11, 100, 110)))
    assert accents(catalog) == [(None, None)]  # nothing was said of that


def test_a_label_of_a_small_part_is_not_the_pieces(catalog: Catalog) -> None:
    catalog.write_source(make_result(piece(0, 0, 10), piece(1, 10, 20)))
    write_labels(catalog, [label("Lori", 7, 14)])  # 3 of 10 s, and 4
    assert accents(catalog) == [(None, None)] * 2
    write_labels(catalog, [label("Lori", 7, 14, created_at=WHEN + timedelta(1))])  # said twice is not said of more
    assert accents(catalog) == [(None, None)] * 2


def test_a_corrected_source_label_keeps_what_was_said_and_when(catalog: Catalog) -> None:
    source = make_source(accent="Yazdi", accent_raw="یزدی")
    catalog.write_source(make_result(piece(0, 0, 5), source=source))
    query = "SELECT raw, accent, origin, created_at FROM labels"
    first = list(catalog.query(query).rows)
    assert [row[:3] for row in first] == [("یزدی", "Yazdi", "source metadata")]
    catalog.update_labels([replace(source, title="new")])
    catalog.write_source(make_result(piece(0, 0, 5), source=source))
    assert list(catalog.query(query).rows) == first  # nothing new was said
    catalog.update_labels([replace(source, accent="Lori", accent_raw="lori")])
    ((raw, accent, _, when),) = catalog.query(query).rows
    assert (raw, accent) == ("lori", "Lori")
    assert when >= first[0][3]
    assert accents(catalog) == [("Lori", "source metadata")]
    catalog.update_labels([replace(source, accent=None, accent_raw=None)])
    assert list(catalog.query(query).rows) == []
    assert accents(catalog) == [(None, None)]


@pytest.mark.parametrize(
    "bad",
    [
        label("Lori", 5, 5),
        label("Lori", -1, 5),
        label("Lori", confidence=1.5),
        label("Lori", raw=""),
        label("Lori", origin="hearsay"),
        label("Lori", 0, 5, scope=Scope.SOURCE),
        label("Lori", scope=Scope.SPEAKER),
    ],
)
def test_the_schema_refuses_a_label_that_cant_be(catalog: Catalog, bad: Label) -> None:
    catalog.write_source(make_result(piece(0, 0, 5)))
    with pytest.raises(PdidError, match="can't be written"):
        write_judgements(catalog, [label("Lori", 0, 5), bad], [text("x", 0, 5)])
    assert (labels(catalog), transcripts(catalog), accents(catalog)) == ([], [], [(None, None)])


# Texts


def test_people_go_before_imports_subtitles_and_models(catalog: Catalog) -> None:
    catalog.write_source(make_result(piece(0, 0, 5), source=make_source(language="fa")))
    order = ["model:a", "subtitle", "imported", "human"]
    for origin in order:
        write_transcripts(catalog, [text(origin, 0, 5, origin, confidence=0.1, language="fa")])
        found = catalog.query("SELECT text, text_origin, text_confidence, language FROM segments").rows
        assert list(found) == [(origin, origin, 0.1, "fa")]
    write_transcripts(catalog, [text("later, by a model", 0, 5, "model:b", days=9, confidence=1.0)])
    assert texts(catalog) == ["human"]
    assert len(transcripts(catalog)) == 5


def test_among_models_the_sound_one_the_surer_one_the_newer_one(catalog: Catalog) -> None:
    catalog.write_source(make_result(piece(0, 0, 5)))
    write_transcripts(catalog, [text("la la la", 0, 5, "model:a", confidence=0.9, flags=("loop",))])
    assert texts(catalog) == ["la la la"]  # better than nothing
    write_transcripts(catalog, [text("unsure", 0, 5, "model:b", confidence=0.2)])
    assert texts(catalog) == ["unsure"]
    write_transcripts(catalog, [text("surer", 0, 5, "model:c", confidence=0.6)])
    assert texts(catalog) == ["surer"]
    write_transcripts(catalog, [text("newer", 0, 5, "model:d", days=1, confidence=0.6)])
    assert texts(catalog) == ["newer"]


def test_the_newest_of_one_origin_holds(catalog: Catalog) -> None:
    catalog.write_source(make_result(piece(0, 0, 5)))
    write_transcripts(catalog, [text("old", 0, 5, "human"), text("new", 0.1, 5, "human", days=1)])
    assert texts(catalog) == ["new"]
    write_transcripts(catalog, [text("older", 0, 5, "human", days=-1)])
    assert texts(catalog) == ["new"]


def test_cues_are_joined_and_only_where_they_cover_the_speech(catalog: Catalog) -> None:
    speech = tuple(Mark("speech", round(a * RATE), round(b * RATE)) for a, b in ((0.3, 4.5), (5.5, 9.5), (12, 19)))
    result = replace(make_result(piece(0, 0, 10), piece(1, 11, 20)), marks=speech)
    catalog.write_source(result)
    write_transcripts(catalog, [text("one", 0.3, 4.4, "subtitle"), text("two", 5.5, 9.4, "subtitle")])
    write_transcripts(catalog, [text("half of it", 12, 15.5, "subtitle")])
    assert texts(catalog) == ["one two", None]
    write_transcripts(catalog, [text("the rest", 15.5, 19, "subtitle")])
    assert texts(catalog) == ["one two", "half of it the rest"]


def test_a_text_that_reaches_into_the_next_piece_is_nobodys(catalog: Catalog) -> None:
    catalog.write_source(make_result(piece(0, 0, 10), piece(1, 10, 20)))
    write_transcripts(catalog, [text("across", 5, 15), text("whole", 0, 10, "model:a")])
    assert texts(catalog) == ["whole", None]


def test_a_text_outlives_a_segmentation_that_moves_the_cuts_a_little(catalog: Catalog) -> None:
    catalog.write_source(make_result(piece(0, 1, 10)))
    write_transcripts(catalog, [text("سلام", 1, 10, "human")])
    catalog.write_source(make_result(piece(1, 0.8, 10.2)))
    assert texts(catalog) == ["سلام"]
    catalog.write_source(make_result(piece(2, 1, 5), piece(3, 5, 10)))
    assert texts(catalog) == [None, None]  # which words are whose can't be told


# The whole


TIMES = st.integers(0, 8).flatmap(lambda a: st.tuples(st.just(a * 2), st.integers(a + 1, 12).map(lambda b: b * 2)))
PLACES = st.sampled_from([SOURCE_ID, OTHER])
LABELS = st.builds(
    lambda source, times, accent, scope, origin, author, day, confidence: Label(
        source,
        scope,
        None if scope is Scope.SOURCE else times[0] * RATE,
        None if scope is Scope.SOURCE else times[1] * RATE,
        accent,
        accent,
        origin,
        author,
        WHEN + timedelta(days=day),
        confidence,
    ),
    PLACES,
    TIMES,
    st.sampled_from(["Lori", "Yazdi", "Kurdish"]),
    st.sampled_from(Scope),
    st.sampled_from([ANNOTATOR, SPEAKER, CLASSIFIER]),
    st.sampled_from(["a", "b"]),
    st.integers(0, 3),
    st.sampled_from([None, 0.2, 0.8]),
)
TEXTS = st.builds(
    lambda source, times, origin, day: replace(
        text(f"{origin} {day}", times[0], times[1], origin, day), source_id=source
    ),
    PLACES,
    TIMES,
    st.sampled_from(["human", "subtitle", "model:a"]),
    st.integers(0, 3),
)


def cut(source_id: str, width: int) -> tuple[Segment, ...]:
    """Pieces of `width` seconds, the speakers taking turns."""
    return tuple(
        kept(n, source_id, start=n * width * RATE, end=(n + 1) * width * RATE, speaker_id=f"{source_id}-S{n % 2 + 1}")
        for n in range(24 // width)
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    with open_catalog(tmp_path_factory.mktemp("shared"), write=True) as opened:
        yield opened


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LABELS, max_size=8), st.lists(TEXTS, max_size=8))
def test_the_order_of_events_plays_no_part(shared: Catalog, said: list[Label], told: list[Transcript]) -> None:
    """Resolving source by source as things come in gives what resolving all at once does; and each accent that
    holds is some label's whose stretch meets the piece."""
    catalog = shared
    results = [
        make_result(*cut(SOURCE_ID, 4), source=make_source(accent="Tajiki")),
        make_result(*cut(OTHER, 6), source=make_source(OTHER)),
    ]
    held = []
    for one_by_one in (False, True):
        for table in ("label", "transcript", "source", "segment", "address"):
            catalog.connection.execute(f"DELETE FROM base.{table}")
        if one_by_one:
            write_judgements(catalog, said[::-1], told[:1])
            for result in results:
                catalog.write_source(replace(result, segments=cut(result.source.source_id, 3)))
            write_judgements(catalog, [], told[1:])
        for result in results:
            catalog.write_source(result)
        if not one_by_one:
            write_judgements(catalog, said, told)
            with catalog.transaction():
                resolve(catalog.connection, [SOURCE_ID, OTHER])
        shown = "SELECT segment_id, COLUMNS('accent|text'), language FROM segments ORDER BY segment_id"
        held.append(list(catalog.query(shown).rows))
        for accent, start, end in catalog.query("SELECT accent, start_s, end_s FROM segments").rows:
            assert accent in (None, "Tajiki") or any(
                one.accent == accent
                and (
                    one.start is None
                    or one.end is None
                    or one.scope is Scope.SPEAKER
                    or (one.start / RATE < end and start < one.end / RATE)
                )
                for one in said
            )
    assert held[0] == held[1]


def test_conflicts_are_listed_with_what_holds_and_why(catalog: Catalog) -> None:
    catalog.write_source(make_result(piece(0, 0, 5), piece(1, 5, 10), source=make_source(accent="Yazdi")))
    query = (Path(__file__).resolve().parent.parent / "catalog/queries/label_conflicts.sql").read_text("utf-8")
    assert list(catalog.query(query).rows) == []
    write_labels(catalog, [label("Lori", 0, 5), label("Yazdi", 5, 10), label("Lori", 0, 5, author="b")])
    found = catalog.query(query)
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    assert [(row["start_s"], row["accent"], row["accent_origin"]) for row in rows] == [(0.0, "Lori", "annotator")]
    assert rows[0]["labels"] == [
        "Lori (segment, annotator, ann)", "Lori (segment, annotator, b)", "Yazdi (source, source metadata)",
    ]  # fmt: skip


def test_when_is_told_in_utc(catalog: Catalog) -> None:
    catalog.write_source(make_result(piece(0, 0, 5)))
    write_labels(catalog, [label("Lori", 0, 5)])
    assert labels(catalog)[0].created_at == WHEN
    assert next(catalog.query("SELECT created_at FROM labels").rows)[0] == datetime(2026, 1, 31, 12, 30)
