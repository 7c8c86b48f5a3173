"""`pdid label`: tasks for Label Studio, its answers and tables of labels back, and files edited into nonsense."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from catalog.annotations import labels, transcripts
from catalog.records import Label, LabelOrigin, Scope, Transcript
from catalog.store import open_catalog
from tests.media import Pdid, query

Change = Callable[[list[dict[str, Any]]], Any]


def state(corpus: Path) -> tuple[list[Label], list[Transcript]]:
    with open_catalog(corpus) as catalog:
        return labels(catalog), transcripts(catalog)


@pytest.fixture
def tasks(corpus: Path, pdid: Pdid, tmp_path: Path) -> list[dict[str, Any]]:
    """The exported tasks of the corpus."""
    assert pdid("label", "export", tmp_path / "tasks", "--corpus", corpus).code == 0
    found = json.loads((tmp_path / "tasks/tasks.json").read_text("utf-8"))
    assert isinstance(found, list)
    return found


def answered(
    task: dict[str, Any], number: int, accent: str | None = "Lori", text: str | None = "سلام"
) -> dict[str, Any]:
    """A task as Label Studio's raw JSON export has it, after labelstud.io/guide/task_format."""
    chosen = {"from_name": "accent", "to_name": "audio", "type": "choices", "value": {"choices": [accent]}}
    written = {"from_name": "transcript", "to_name": "audio", "type": "textarea", "value": {"text": [text]}}
    result = [
        {"id": f"r{i}", "origin": "manual", **r}
        for i, r in enumerate((chosen if accent else None, written if text else None))
        if r
    ]
    annotation = {
        "id": 100 + number,
        "completed_by": 10,
        "result": result,
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-02-01T09:00:00.5Z",
        "updated_at": "2026-02-01T10:30:00.5Z",
        "lead_time": 4.2,
    }
    return {
        "id": number,
        "created_at": "2026-01-31T09:00:00Z",
        "updated_at": "2026-02-01T10:30:00Z",
        "project": 7,
        "data": task["data"],
        "annotations": [annotation],
        "predictions": task.get("predictions", []),
        "drafts": [],
    }


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), "utf-8")
    return path


# Out


def test_tasks_have_all_clips_and_the_interface_has_the_controls(
    corpus: Path, tasks: list[dict[str, Any]], tmp_path: Path
) -> None:
    clips = query(corpus, "SELECT segment_id, source_id, start_s, end_s, path FROM segments WHERE kept ORDER BY 2, 3")
    assert [tuple(task["data"][key] for key in ("segment_id", "source_id", "start_s", "end_s")) for task in tasks] == [
        clip[:4] for clip in clips
    ]
    for task, clip in zip(tasks, clips, strict=True):
        served = task["data"]["audio"].removeprefix("/data/local-files/?d=")
        assert served == clip[4]
        assert (corpus / served).is_file()
        assert "predictions" not in task  # nothing is known yet
    view = ElementTree.parse(tmp_path / "tasks/config.xml").getroot()
    audio, choices, text = (view.find(tag) for tag in ("Audio", "Choices", "TextArea"))
    assert audio is not None and choices is not None and text is not None  # noqa: PT018
    assert (audio.get("name"), audio.get("value")) == ("audio", "$audio")
    assert {choices.get("toName"), text.get("toName")} == {"audio"}
    names = [choice.get("value") for choice in choices.findall("Choice")]
    assert names[:2] == ["Isfahani", "Yazdi"]
    assert len(names) == 11


def test_round_trip(corpus: Path, tasks: list[dict[str, Any]], pdid: Pdid, tmp_path: Path) -> None:
    first, second, third = tasks[:3]
    export = [answered(first, 1), answered(second, 2, "Scottish", None), answered(third, 3, None, "no accent heard")]
    export[2]["annotations"][0]["completed_by"] = {"id": 3, "email": "a@example.org", "first_name": ""}
    skipped = answered(tasks[3], 4)
    skipped["annotations"][0]["was_cancelled"] = True
    done = pdid("label", "import", write(tmp_path / "p.json", [*export, skipped]), "--corpus", corpus, "--json")
    assert (done.code, json.loads(done.out)) == (0, {"labels": 2, "transcripts": 2, "known": 0, "skipped": 1})
    assert "doesn't know: Scottish" in done.err
    said, told = state(corpus)
    assert {(x.accent, x.scope, x.origin, x.author) for x in said} == {
        ("Lori", Scope.SEGMENT, LabelOrigin.ANNOTATOR, "Label Studio user 10"),
        ("Scottish", Scope.SEGMENT, LabelOrigin.ANNOTATOR, "Label Studio user 10"),
    }
    assert {x.created_at.isoformat() for x in said} == {"2026-02-01T10:30:00.500000+00:00"}
    assert {(x.text, x.origin, x.model) for x in told} == {
        ("سلام", "human", "Label Studio user 10"),
        ("no accent heard", "human", "a@example.org"),
    }
    shown = query(corpus, "SELECT segment_id, accent, text FROM segments WHERE accent IS NOT NULL OR text <> ''")
    assert set(shown) == {
        (first["data"]["segment_id"], "Lori", "سلام"),
        (second["data"]["segment_id"], "Scottish", None),
        (third["data"]["segment_id"], None, "no accent heard"),
    }
    again = pdid("label", "import", tmp_path / "p.json", "--corpus", corpus, "--json")
    assert json.loads(again.out) == {"labels": 0, "transcripts": 0, "known": 4, "skipped": 1}
    # what is known now is filled in, and chosen by
    pdid("label", "export", tmp_path / "lori", "--corpus", corpus, "--accent", "لری")
    (task,) = json.loads((tmp_path / "lori/tasks.json").read_text("utf-8"))
    values = {result["from_name"]: result["value"] for result in task["predictions"][0]["result"]}
    assert values == {"accent": {"choices": ["Lori"]}, "transcript": {"text": ["سلام"]}}
    assert task["predictions"][0]["model_version"] == "annotator, human"
    assert '<Choice value="Scottish" />' in (tmp_path / "lori/config.xml").read_text("utf-8")


def test_the_short_export_format_is_read_too(
    corpus: Path, tasks: list[dict[str, Any]], pdid: Pdid, tmp_path: Path
) -> None:
    task = tasks[0]["data"] | {
        "id": 1, "accent": "Yazdi", "transcript": "سلام", "annotator": 2, "annotation_id": 5,
        "created_at": "2026-02-01T09:00:00Z", "updated_at": "2026-02-01T09:30:00Z", "lead_time": 3.1,
    }  # fmt: skip
    empty = tasks[1]["data"] | {"id": 2, "annotator": 2, "created_at": "2026-02-01T09:00:00Z"}
    done = pdid("label", "import", write(tmp_path / "min.json", [task, empty]), "--corpus", corpus, "--json")
    assert (done.code, json.loads(done.out)) == (0, {"labels": 1, "transcripts": 1, "known": 0, "skipped": 1})
    assert [(x.accent, x.author) for x in state(corpus)[0]] == [("Yazdi", "Label Studio user 2")]


def test_samples_and_filters(corpus: Path, tasks: list[dict[str, Any]], pdid: Pdid, tmp_path: Path) -> None:
    def ids(name: str, *options: object) -> list[str]:
        assert pdid("label", "export", tmp_path / name, "--corpus", corpus, *options).code == 0
        return [t["data"]["segment_id"] for t in json.loads((tmp_path / name / "tasks.json").read_text("utf-8"))]

    every = [task["data"]["segment_id"] for task in tasks]
    two = ids("a", "--sample", 2)
    assert len(two) == 2
    assert two == ids("b", "--sample", 2)
    assert set(two) < set(ids("c", "--sample", 3)) <= set(every)
    table = write(tmp_path / "x.csv", f"segment_id,accent\n{every[0]},Lori\n")
    assert pdid("label", "import", table, "--corpus", corpus).code == 0
    assert ids("d", "--unlabelled") == every[1:]
    assert ids("e", "--accent", "Lori", "--audio-prefix", "") == every[:1]
    nothing = pdid("label", "export", tmp_path / "f", "--corpus", corpus, "--accent", "Yazdi")
    assert (nothing.code, (tmp_path / "f").exists()) == (2, False)
    both = pdid("label", "export", tmp_path / "f", "--corpus", corpus, "--accent", "Lori", "--unlabelled")
    assert both.code == 2
    full = pdid("label", "export", tmp_path / "a", "--corpus", corpus)
    assert full.code == 2
    assert "not an empty folder" in full.err
    assert ids("g", "--sample", 1) == ids("g2", "--sample", 1)


# In, as a table


def test_a_table_labels_pieces_stretches_recordings_and_speakers(
    corpus: Path, two_speakers: Path, talk: Path, pdid: Pdid, tmp_path: Path
) -> None:
    two = query(corpus, f"SELECT source_id FROM sources WHERE uri = '{two_speakers}'")[0][0]
    pieces = query(
        corpus, f"SELECT segment_id, local_speaker_id FROM segments WHERE kept AND source_id = '{two}' ORDER BY start_s"
    )
    guest = next(voice for _, voice in pieces if voice != pieces[0][1])
    table = write(
        tmp_path / "labels.csv",
        "segment_id;source;start_s;end_s;speaker;accent;origin;author;confidence\n"
        f"{pieces[0][0]};;;;;لری;;anna;0.9\n"
        f";{talk};;;;Esfahani;classifier;net 2;0.5\n"
        f";{two};;;{guest};Yazdi;;;\n"
        f";{talk};1.5;4.5;;Kurdish;;;\n",
    )
    done = pdid("label", "import", table, "--corpus", corpus, "--json")
    assert (done.code, json.loads(done.out)["labels"]) == (0, 4), done.err
    said = {x.raw: x for x in state(corpus)[0]}
    assert said["لری"].accent == "Lori"
    assert (said["لری"].scope, said["لری"].origin) == (Scope.SEGMENT, LabelOrigin.ANNOTATOR)
    assert (said["لری"].author, said["لری"].confidence) == ("anna", 0.9)
    assert (said["Esfahani"].scope, said["Esfahani"].origin) == (Scope.SOURCE, LabelOrigin.CLASSIFIER)
    assert (said["Yazdi"].scope, said["Yazdi"].origin) == (Scope.SPEAKER, LabelOrigin.SPEAKER)
    assert said["Yazdi"].author == "labels.csv"
    assert (said["Kurdish"].start, said["Kurdish"].end) == (24_000, 72_000)
    shown = query(
        corpus,
        "SELECT DISTINCT local_speaker_id, accent FROM segments"
        f" WHERE kept AND source_id = '{two}' AND segment_id <> '{pieces[0][0]}'",
    )
    assert (guest, "Yazdi") in shown
    assert all(accent is None for voice, accent in shown if voice != guest)
    assert query(
        corpus,
        f"SELECT DISTINCT segments.accent FROM segments JOIN sources USING (source_id) WHERE uri = '{talk}' AND kept",
    ) == [("Isfahani",)]
    again = pdid("label", "import", table, "--corpus", corpus, "--json")
    assert json.loads(again.out) == {"labels": 0, "transcripts": 0, "known": 4, "skipped": 0}


BAD_TABLES = {
    "a misspelt accent": (
        "segment_id,accent\n{segment},Lori\n{segment},Shirazy\n",
        "line 3: accent 'Shirazy'.*Shirazi",
    ),
    "an unknown piece": ("segment_id,accent\nffff,Lori\n", "line 2: there is no segment 'ffff'"),
    "an unknown recording": ("source,accent\nnope.wav,Lori\n", "line 2: there is no recording 'nope.wav'"),
    "an unknown speaker": ("speaker,accent\nnobody,Lori\n", "line 2: there is no speaker 'nobody'"),
    "a time outside": ("source,start_s,end_s,accent\n{source},5,9000,Lori\n", "line 2: 5 to 9000 s is not within"),
    "backwards": ("source,start_s,end_s,accent\n{source},5,4,Lori\n", "line 2: .*ends before it begins"),
    "half a time": ("source,start_s,accent\n{source},5,Lori\n", "line 2: .*go together"),
    "not a number": ("source,start_s,end_s,accent\n{source},five,6,Lori\n", "line 2: `start_s` is 'five'"),
    "no accent": ("segment_id,accent\n{segment},\n", "line 2: the column `accent` is empty"),
    "about nothing": ("author,accent\nx,Lori\n", "line 2: expected one of `segment_id`"),
    "about two things": ("segment_id,source,accent\n{segment},{source},Lori\n", "line 2: expected one of"),
    "too sure": ("segment_id,accent,confidence\n{segment},Lori,90\n", "line 2: the confidence is 90"),
    "hearsay": ("segment_id,accent,origin\n{segment},Lori,hearsay\n", "line 2: the origin is 'hearsay'"),
    "an odd column": ("segment_id,accent,mood\n{segment},Lori,x\n", "a column 'mood'"),
    "a misspelt column": ("segment_id,acent\n{segment},Lori\n", "did you mean 'accent'"),
    "nothing": ("segment_id,accent\n", "no label in it"),
}


@pytest.mark.parametrize(("content", "message"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_a_table_that_cant_be_meant_changes_nothing(
    ingested: Path, pdid: Pdid, tmp_path: Path, content: str, message: str
) -> None:
    segment, source = query(ingested, "SELECT segment_id, source_id FROM segments WHERE kept ORDER BY 1")[0]
    table = write(tmp_path / "bad.csv", content.format(segment=segment, source=source))
    done = pdid("label", "import", table, "--corpus", ingested)
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert re.search(message, done.err), done.err
    assert state(ingested) == ([], [])


# In, as tasks edited by hand


def set_in(*path: Any, to: Any) -> Change:
    def change(tasks: list[dict[str, Any]]) -> None:
        place: Any = tasks
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = to

    return change


ANNOTATION = (1, "annotations", 0)
BAD_TASKS: dict[str, tuple[Change, str]] = {
    "a misspelt accent": (
        set_in(*ANNOTATION, "result", 0, "value", "choices", to=["Yazdii"]),
        r"task 2 \(id 2\): accent 'Yazdii' looks like a misspelling of 'Yazdi'",
    ),
    "two accents": (set_in(*ANNOTATION, "result", 0, "value", "choices", to=["Yazdi", "Lori"]), "task 2.*one string"),
    "no value": (set_in(*ANNOTATION, "result", 0, "value", to=3), "task 2.*no object `value`"),
    "an odd value": (set_in(*ANNOTATION, "result", 1, "value", to={"x": 1}), "task 2.*'transcript' has no 'text'"),
    "no results": (set_in(*ANNOTATION, "result", to="none"), "task 2.*no list `result`"),
    "no annotations": (set_in(1, "annotations", to=7), "task 2.*are no list"),
    "another time": (set_in(1, "data", "start_s", to=0.001), "task 2.*is not at that time"),
    "a time outside": (set_in(1, "data", "end_s", to=1e6), "task 2.*is not within the recording"),
    "a time in words": (set_in(1, "data", "end_s", to="soon"), "task 2.*'end_s' is 'soon'"),
    "no number": (set_in(1, "data", "end_s", to=float("nan")), "task 2.*'end_s' is nan"),
    "an unknown recording": (set_in(1, "data", "source_id", to="0" * 16), "task 2.*no recording '0000"),
    "no recording": (set_in(1, "data", "source_id", to=None), "task 2.*no 'source_id'"),
    "a task of another project": (
        set_in(1, "data", to={"audio": "x.wav"}),
        "task 2.*it has no|task 2.*'start_s' is None",
    ),
    "no date": (set_in(*ANNOTATION, "updated_at", to="yesterday"), "task 2.*time is 'yesterday'"),
    "an odd annotator": (set_in(*ANNOTATION, "completed_by", to=[1]), r"task 2.*annotator is \[1\]"),
    "no task": (set_in(1, to="x"), "task 2: expected an object, found str"),
}


@pytest.mark.parametrize(("change", "message"), BAD_TASKS.values(), ids=BAD_TASKS)
def test_tasks_edited_into_nonsense_change_nothing(
    ingested: Path, pdid: Pdid, tmp_path: Path, change: Change, message: str
) -> None:
    pdid("label", "export", tmp_path / "tasks", "--corpus", ingested, "--sample", 2)
    exported = json.loads((tmp_path / "tasks/tasks.json").read_text("utf-8"))
    tasks = [answered(task, n) for n, task in enumerate(exported, 1)]
    change(tasks)
    done = pdid("label", "import", write(tmp_path / "bad.json", tasks), "--corpus", ingested)
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert re.search(message, done.err), done.err
    assert state(ingested) == ([], [])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[{", "not valid JSON"),
        ("a.json", '{"tasks": []}', "expected a list of tasks"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.txt", "x", "ending in .json"),
        ("a.csv", "", "is empty"),
    ],
)
def test_other_files_are_told(
    ingested: Path, pdid: Pdid, tmp_path: Path, name: str, content: str, message: str
) -> None:
    done = pdid("label", "import", write(tmp_path / name, content), "--corpus", ingested)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err


def test_answers_outlive_pieces_that_are_no_more(
    corpus: Path, tasks: list[dict[str, Any]], pdid: Pdid, tmp_path: Path
) -> None:
    old = answered(tasks[0], 1)
    old["data"] = old["data"] | {"segment_id": "0" * 16, "start_s": old["data"]["start_s"] + 0.1}
    done = pdid("label", "import", write(tmp_path / "old.json", [old]), "--corpus", corpus)
    assert done.code == 0
    assert "1 tasks are about pieces that were cut anew since" in done.err
    assert query(corpus, f"SELECT accent FROM segments WHERE segment_id = '{tasks[0]['data']['segment_id']}'") == [
        ("Lori",)
    ]
