"""`pdid sql` and `pdid status`: the whole command line, on a real catalog."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

from catalog.named import named_queries
from catalog.records import Address, Reject, SourceResult, SplitMember, Stage, Status
from catalog.store import open_catalog
from corpus_builder.cli import main
from corpus_builder.commands.sql import width
from tests.catalog_rows import SOURCE_ID, WHEN, kept, make_result, make_source, rejected

YAZDI, SCOTTISH, BROKEN = "a" * 16, "b" * 16, "c" * 16
TITLE = "گفت‌وگو، بخش ۱"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two recordings that went well, one that failed, and a split with a leak."""
    yazdi = make_source(YAZDI, accent="Yazdi", title=TITLE, licence="CC BY 4.0")
    scottish = make_source(SCOTTISH, accent="Scottish", title='say "aye", then\nnay')
    broken = make_source(BROKEN, sha256=None, n_samples=None, status=Status.FAILED, error="the file is empty (0 bytes)")
    with open_catalog(tmp_path / "corpus", write=True) as catalog:
        one = make_result(*(kept(n, YAZDI, dnsmos_ovrl=3.0) for n in range(4)), source=yazdi)
        lost = tuple(replace(rejected(n, Reject.OVERLAP), source_id=YAZDI) for n in range(2))
        stage = Stage(YAZDI, "vad", 30.0, 600.0, "aa", "silero", WHEN)
        copy = Address("/elsewhere/copy.wav", YAZDI)
        catalog.write_source(
            replace(one, segments=one.segments + lost, stages=(stage,), addresses=(*one.addresses, copy))
        )
        catalog.write_source(make_result(kept(0, SCOTTISH, loudness_lufs=-26.0), source=scottish))
        catalog.write_source(SourceResult(broken, (Address(broken.uri, BROKEN),)))
        members = [SplitMember(f"{YAZDI}-{n}", "train" if n else "test") for n in range(4)]
        catalog.write_split([*members, SplitMember(f"{SCOTTISH}-0", "dev")])
    return tmp_path / "corpus"


class Run:
    """Runs `pdid` in this process, as the script does."""

    def __init__(self, corpus: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.corpus, self.capfd, self.monkeypatch = corpus, capfd, monkeypatch

    def __call__(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        self.monkeypatch.setattr("sys.argv", ["pdid", *arguments, "--corpus", str(self.corpus)])
        self.monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as exit_:
            main()
        assert isinstance(exit_.value.code, int)
        return (exit_.value.code, *self.capfd.readouterr())


@pytest.fixture
def pdid(corpus: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(corpus, capfd, monkeypatch)


def objects(pdid: Run, query: str) -> list[dict[str, object]]:
    code, out, err = pdid("sql", query, "--json")
    assert (code, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


# Output


def test_the_table_is_aligned_for_people(pdid: Run) -> None:
    code, out, _ = pdid("sql", "SELECT * FROM (VALUES ('a', 1.5, true), ('longer', 22.25, NULL)) AS t(name, n, yes)")
    assert code == 0
    assert out.splitlines() == [
        "name        n  yes",
        "──────  ─────  ────",
        "a        1.50  true",
        "longer  22.25",
    ]


def test_persian_does_not_break_the_table(pdid: Run) -> None:
    _, out, _ = pdid("sql", "SELECT title, 'x' AS mark FROM sources ORDER BY source_id")
    header, rule, yazdi, scottish, broken = out.splitlines()
    assert f"\u2068{TITLE}\u2069" in yazdi
    assert scottish.startswith(r'say "aye", then\nnay')
    column = width(header.partition("mark")[0])
    assert [width(line.rpartition("x")[0]) for line in (yazdi, scottish, broken)] == [column] * 3
    assert len(rule.split("  ")[0]) == max(width(TITLE), len(r'say "aye", then\nnay'))


@pytest.mark.parametrize(
    ("text", "columns"), [("abc", 3), ("کُرد", 3), ("می‌رود", 5), ("日本", 4), ("", 0), ("e\u0301", 1)]
)
def test_width_in_a_terminal(text: str, columns: int) -> None:
    assert width(text) == columns


def test_a_title_cant_command_the_terminal(pdid: Run) -> None:
    _, out, _ = pdid("sql", "SELECT chr(27) || '[2J' AS evil")
    assert r"\x1b[2J" in out
    assert all(letter == "\n" or unicodedata.category(letter) != "Cc" for letter in out)


def test_csv_is_rfc_4180(pdid: Run) -> None:
    code, out, _ = pdid(
        "sql", "SELECT source_id, title, accent, 1.5::DOUBLE AS n, true AS t FROM sources ORDER BY 1", "--csv"
    )
    assert code == 0
    assert out.count("\r\n") == 4
    assert '"say ""aye"", then\nnay"' in out
    assert list(csv.reader(io.StringIO(out, newline=""))) == [
        ["source_id", "title", "accent", "n", "t"],
        [YAZDI, TITLE, "Yazdi", "1.5", "true"],
        [SCOTTISH, 'say "aye", then\nnay', "Scottish", "1.5", "true"],
        [BROKEN, "", "", "1.5", "true"],
    ]


def test_json_is_an_object_per_line(pdid: Run) -> None:
    (found,) = objects(
        pdid,
        "SELECT title, NULL AS nothing, 'nan'::DOUBLE AS nan, 2::HUGEINT AS n, 1.25::DECIMAL(5, 2) AS d,"
        " DATE '2026-01-31' AS day, [1, 2] AS list, MAP {'k': 'v'} AS map, 'a' AS x, 'b' AS x"
        " FROM sources WHERE accent = 'Yazdi'",
    )
    assert found == {
        "title": TITLE, "nothing": None, "nan": None, "n": 2, "d": 1.25, "day": "2026-01-31", "list": [1, 2],
        "map": {"k": "v"}, "x": "a", "x_2": "b",
    }  # fmt: skip


def test_many_rows_come_whole(pdid: Run) -> None:
    assert len(objects(pdid, "SELECT range FROM range(2500)")) == 2500


def test_no_rows_still_have_a_header(pdid: Run) -> None:
    assert pdid("sql", "SELECT source_id, status FROM sources WHERE false")[1].splitlines()[0] == "source_id  status"
    assert pdid("sql", "SELECT source_id, status FROM sources WHERE false", "--csv")[1] == "source_id,status\r\n"
    assert pdid("sql", "SELECT source_id FROM sources WHERE false", "--json")[1] == ""


def test_standard_input(pdid: Run) -> None:
    code, out, _ = pdid("sql", "-", "--csv", stdin="SELECT count(*) AS n\nFROM sources")
    assert (code, out) == (0, "n\r\n3\r\n")


# Named queries


def test_without_a_query_the_named_ones_are_listed(pdid: Run) -> None:
    code, out, _ = pdid("sql")
    assert code == 0
    listed = {json.loads(line)["query"]: json.loads(line)["help"] for line in pdid("sql", "--json")[1].splitlines()}
    assert len(listed) >= 10
    for name, text in listed.items():
        assert name in out
        assert len(text) > 20


@pytest.mark.parametrize("name", named_queries())
def test_every_named_query_runs(pdid: Run, name: str) -> None:
    code, _, err = pdid("sql", f"@{name}", "--csv")
    assert (code, err) == (0, "")


def test_what_the_named_queries_say(pdid: Run) -> None:
    assert objects(pdid, "@hours_by_accent") == [
        {"accent": "Yazdi", "hours": 0.006, "clips": 4, "speakers": 1, "sources": 1},
        {"accent": "Scottish", "hours": 0.001, "clips": 1, "speakers": 1, "sources": 1},
    ]
    assert [
        (row["accent"], row["outcome"], row["percent"], row["pieces"])
        for row in objects(pdid, "@where_did_my_hours_go")
    ] == [
        ("Scottish", "kept", 100.0, 1),
        ("Yazdi", "kept", 90.9, 4),
        ("Yazdi", "overlap", 9.1, 2),
    ]
    assert objects(pdid, "@split_leaks") == [
        {"split_name": "split-1", "leak": "source", "id": YAZDI, "sides": "test, train"},
        {"split_name": "split-1", "leak": "speaker", "id": f"{YAZDI}-S1", "sides": "test, train"},
    ]
    assert [(row["accent"], row["split"], row["clips"]) for row in objects(pdid, "@hours_by_split")] == [
        ("Scottish", "dev", 1),
        ("Yazdi", "test", 1),
        ("Yazdi", "train", 3),
    ]
    assert [row["segment_id"] for row in objects(pdid, "@loudness_check")] == [f"{SCOTTISH}-0"]
    assert [row["error"] for row in objects(pdid, "@failed_sources")] == ["the file is empty (0 bytes)"]
    assert objects(pdid, "@duplicates") == [
        {"source_id": YAZDI, "addresses": 2, "uris": ["/elsewhere/copy.wav", f"/media/{YAZDI}.wav"]}
    ]
    assert [(row["stage"], row["minutes_per_hour"]) for row in objects(pdid, "@stage_costs")] == [("vad", 3.0)]
    assert [(row["accent"], row["percent_kept"]) for row in objects(pdid, "@quality_by_accent")] == [
        ("Scottish", 100.0),
        ("Yazdi", 90.9),
    ]
    assert [row["minutes"] for row in objects(pdid, "@longest_sources")] == [10.0, 10.0]
    assert objects(pdid, "@orphans") == []


def test_hours_by_split_tells_of_every_split(pdid: Run, corpus: Path) -> None:
    with open_catalog(corpus, write=True) as catalog:
        ids = [clip.segment_id for clip in catalog.clips() if clip.source_id == YAZDI]
        catalog.write_split([SplitMember(ids[0], "test"), SplitMember(ids[1], "test")], name="newer")
    found = [(r["split_name"], r["accent"], r["split"], r["clips"]) for r in objects(pdid, "@hours_by_split")]
    assert found == [
        ("newer", "Yazdi", "test", 2),
        ("split-1", "Scottish", "dev", 1),
        ("split-1", "Yazdi", "test", 1),
        ("split-1", "Yazdi", "train", 3),
    ]


def test_orphans_are_found(pdid: Run, corpus: Path) -> None:
    with open_catalog(corpus, write=True) as catalog:
        catalog.query("DELETE FROM base.source WHERE source_id = ?", [SCOTTISH])
    assert [(row["row_of"], row["n"]) for row in objects(pdid, "@orphans")] == [
        ("address", 1),
        ("segment", 1),
    ]


def test_an_unknown_name_suggests_the_nearest(pdid: Run) -> None:
    code, out, err = pdid("sql", "@hours_by_acent")
    assert (code, out) == (2, "")
    assert "there is no named query @hours_by_acent: did you mean @hours_by_accent?" in err
    assert "`pdid sql` lists them" in pdid("sql", "@xyzzy")[2]


# What a query may not do


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("DROP TABLE base.segment", "read-only"),
        ("DROP VIEW segments", "read-only"),
        ("SELECT 1; DROP TABLE base.segment", "read-only"),
        ("/* harmless */ DELETE FROM base.segment", "read-only"),
        ("UPDATE base.source SET accent = 'x'", "read-only"),
        ("CREATE TABLE mine AS SELECT 1", "read-only"),
        ("COPY sources TO '{here}/out.csv'", "disabled by configuration"),
        ("EXPORT DATABASE '{here}/out'", "disabled by configuration"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled by configuration"),
        ("SELECT * FROM read_text('/etc/passwd')", "disabled by configuration"),
        ("SELECT * FROM '/etc/passwd'", "does not exist"),
        ("SELECT * FROM glob('/etc/*')", "disabled by configuration"),
        ("ATTACH '{here}/other.duckdb' AS other", "disabled by configuration"),
        ("SELECT * FROM 'https://example.org/x.parquet'", ""),
        ("INSTALL httpfs", "disabled by configuration"),
        ("SET enable_external_access = true", "configuration has been locked"),
    ],
)
def test_the_database_refuses(pdid: Run, corpus: Path, tmp_path: Path, query: str, said: str) -> None:
    before = (corpus / "catalog.duckdb").read_bytes()
    code, out, err = pdid("sql", query.replace("{here}", str(tmp_path)))
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
    assert (corpus / "catalog.duckdb").read_bytes() == before


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("SELECT hours FROM segment", "segment does not exist"),
        ("SELECT acent FROM segments", '"accent"'),
        ("SELECT 'x'::INTEGER", "Could not convert string 'x'"),
        ("", "the query is empty"),
    ],
)
def test_a_wrong_query_is_told_in_the_databases_words(pdid: Run, query: str, said: str) -> None:
    code, out, err = pdid("sql", query)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


def test_csv_and_json_exclude_each_other(pdid: Run) -> None:
    assert pdid("sql", "SELECT 1", "--csv", "--json")[0] == 2


@pytest.mark.parametrize("command", ["sql", "status"])
def test_a_missing_corpus_is_told(pdid: Run, command: str, tmp_path: Path) -> None:
    pdid.corpus = tmp_path / "nowhere"
    code, out, err = pdid(command, *(["SELECT 1"] if command == "sql" else []))
    assert (code, out) == (2, "")
    assert "there is no catalog in the folder" in err
    assert "pdid ingest" in err
    assert not pdid.corpus.exists()


# Status


def test_status_tells_what_there_is_and_what_is_left(pdid: Run) -> None:
    code, out, err = pdid("status")
    assert (code, err) == (0, "")
    assert "2 sources done, 1 failed, 0 pending" in out
    assert "the file is empty (0 bytes)" in out
    assert "split-1" in out
    assert "overlap" in out
    assert "doesn't know: Scottish" in out


def test_status_as_json(pdid: Run) -> None:
    code, out, _ = pdid("status", "--json")
    assert code == 0
    found = json.loads(out)
    assert out.count("\n") == 1
    assert found["sources"] == {"done": 2, "failed": 1, "pending": 0}
    assert found["hours_raw"] == pytest.approx(1200 / 3600)
    assert found["hours_kept"] == pytest.approx(25 / 3600)
    assert {row["accent"]: (row["sources"], row["clips"]) for row in found["accents"]} == {
        "Yazdi": (1, 4),
        "Scottish": (1, 1),
        None: (1, 0),
    }
    assert found["rejected"] == [{"reason": "overlap", "hours": pytest.approx(2 / 3600), "pieces": 2}]
    assert found["failed"] == [{"uri": f"/media/{BROKEN}.wav", "error": "the file is empty (0 bytes)"}]
    assert found["split"]["name"] == "split-1"
    assert {part["split"]: part["clips"] for part in found["split"]["parts"]} == {"dev": 1, "test": 1, "train": 3}
    assert found["unknown_accents"] == ["Scottish"]


def test_status_goes_by_the_corpus_own_taxonomy(pdid: Run, corpus: Path) -> None:
    (corpus / "isles.toml").write_text('name = "isles"\n[[accent]]\nname = "Scottish"\n', "utf-8")
    (corpus / "pdid.toml").write_text('taxonomy = "isles.toml"\n', "utf-8")
    assert json.loads(pdid("status", "--json")[1])["unknown_accents"] == ["Yazdi"]


def test_status_of_an_empty_corpus(pdid: Run, tmp_path: Path) -> None:
    pdid.corpus = tmp_path / "new"
    with open_catalog(pdid.corpus, write=True):
        pass
    code, out, _ = pdid("status")
    assert code == 0
    assert "0 sources done, 0 failed, 0 pending" in out
    assert SOURCE_ID not in out
