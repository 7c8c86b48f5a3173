"""Label Studio: clips as tasks to be judged, and its answers read back.

Formats: labelstud.io/guide/task_format and labelstud.io/guide/export, "JSON" and "JSON_MIN"; the labelling
configuration uses the tags Audio, Choices and TextArea. An answer is pinned to the recording's time, which the task
carries with it, so it holds when the recording was cut anew in the meantime.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from catalog.errors import UsageError
from catalog.labels import ClipToLabel
from catalog.records import RATE
from corpus_builder.tables import read_text

ACCENT, TRANSCRIPT, AUDIO = "accent", "transcript", "audio"
LOCAL_FILES = "/data/local-files/?d="
"""Where Label Studio serves the files under its LOCAL_FILES_DOCUMENT_ROOT."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an annotator said of a stretch of a recording."""

    where: str  # the task, for messages
    source_id: str
    start: int  # samples at 16 kHz
    end: int
    segment_id: str
    accent: str | None
    text: str | None
    author: str
    created_at: datetime


def make_task(clip: ClipToLabel, prefix: str) -> dict[str, Any]:
    """A clip as a task; the label and text it has now are a prediction, which the annotator sees and corrects."""
    known = [
        _result(ACCENT, "choices", {"choices": [clip.accent]}) if clip.accent else None,
        _result(TRANSCRIPT, "textarea", {"text": [clip.text]}) if clip.text else None,
    ]
    origins = ", ".join(dict.fromkeys(origin for origin in (clip.accent_origin, clip.text_origin) if origin))
    data = {
        AUDIO: prefix + clip.path,
        "segment_id": clip.segment_id,
        "source_id": clip.source_id,
        "start_s": clip.start / RATE,
        "end_s": clip.end / RATE,
        "speaker_id": clip.speaker_id,
        "title": clip.title,
    }
    results = [result for result in known if result]
    return {"data": data} | ({"predictions": [{"model_version": origins, "result": results}]} if results else {})


def _result(name: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"id": name, "from_name": name, "to_name": AUDIO, "type": kind, "value": value}


def labelling_config(accents: Sequence[str]) -> str:
    """The XML of a project's labelling interface: the sound, one accent to choose, and the text to correct."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Header", value="$title")
    ElementTree.SubElement(view, "Audio", name=AUDIO, value="$audio")
    choices = ElementTree.SubElement(
        view, "Choices", name=ACCENT, toName=AUDIO, choice="single-radio", showInline="true"
    )
    for accent in accents:
        ElementTree.SubElement(choices, "Choice", value=accent)
    ElementTree.SubElement(
        view, "TextArea", name=TRANSCRIPT, toName=AUDIO, rows="4", editable="true", maxSubmissions="1"
    )
    ElementTree.indent(view)
    return ElementTree.tostring(view, "unicode") + "\n"


def read_answers(path: Path) -> tuple[list[Answer], int]:
    """The answers in an export of Label Studio, JSON or JSON_MIN, and how many tasks were skipped.

    Raises UsageError, naming the task, for anything that no export of these tasks has in it.
    """
    try:
        tasks = json.loads(read_text(path))
    except ValueError as error:
        raise UsageError(f"{path} is not valid JSON: {error}") from None
    except RecursionError:
        raise UsageError(f"{path} is no export of Label Studio: it is nested too deeply") from None
    if not isinstance(tasks, list):
        raise UsageError(f"{path}: expected a list of tasks, as Label Studio's exports JSON and JSON_MIN have it")
    answers, skipped = [], 0
    for number, task in enumerate(tasks, 1):
        where = f"{path}, task {number}"
        try:
            if not isinstance(task, dict):
                raise UsageError(f"expected an object, found {type(task).__name__}")
            if isinstance(task.get("id"), int | str):
                where += f" (id {task['id']})"
            found = list(_answers(task, where))
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None
        answers += [answer for answer in found if answer.accent or answer.text]
        skipped += not any(answer.accent or answer.text for answer in found)
    return answers, skipped


def _answers(task: Mapping[str, Any], where: str) -> Iterator[Answer]:
    """What the annotators of a task said; an annotation that was skipped says nothing."""
    data = task.get("data", task)  # JSON_MIN has the data's fields in the task itself
    if not isinstance(data, dict):
        raise UsageError("its `data` is no object")
    start, end = (_seconds(data, name) for name in ("start_s", "end_s"))
    place = (_string(data, "source_id"), start, end, _string(data, "segment_id"))
    if "data" not in task:
        author, moment = _author(task.get("annotator")), _moment(task)
        yield Answer(
            where, *place, _one(task.get(ACCENT), ACCENT, "choices"), _one(task.get(TRANSCRIPT), TRANSCRIPT, "text"),
            author, moment,
        )  # fmt: skip
        return
    annotations = task.get("annotations", [])
    if not isinstance(annotations, list):
        raise UsageError("its `annotations` are no list")
    for annotation in annotations:
        if not isinstance(annotation, dict) or not isinstance(annotation.get("result", []), list):
            raise UsageError("an annotation has no list `result`")
        if annotation.get("was_cancelled"):
            continue
        values = _values(annotation.get("result", []))
        accent = _one(values.get(ACCENT), ACCENT, "choices")
        text = _one(values.get(TRANSCRIPT), TRANSCRIPT, "text")
        yield Answer(where, *place, accent, text, _author(annotation.get("completed_by")), _moment(annotation))


def _values(results: Sequence[Any]) -> dict[str, Any]:
    """The values of the controls that are ours."""
    values: dict[str, Any] = {}
    for result in results:
        if not isinstance(result, dict) or not isinstance(result.get("value"), dict):
            raise UsageError("a result has no object `value`")
        name = result.get("from_name")
        if name in (ACCENT, TRANSCRIPT):
            if name in values:
                raise UsageError(f"one annotation has two results for {name!r}: leave one")
            values[name] = result["value"]
    return values


def _one(value: Any, name: str, key: str) -> str | None:
    """The one string in a control's value: itself, a list of it, or an object with it under `key`."""
    if isinstance(value, dict):
        if key not in value:
            raise UsageError(f"the value of {name!r} has no {key!r}")
        value = value[key]
    if isinstance(value, list) and len(value) <= 1:
        value = value[0] if value else None
    if value is None:
        return None
    if not isinstance(value, str):
        raise UsageError(f"the value of {name!r} is {value!r}: expected one string")
    return value.strip() or None


def _string(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value:
        raise UsageError(f"it has no {name!r}: expected a task that `pdid label export` has written")
    return value


def _seconds(data: Mapping[str, Any], name: str) -> int:
    """A time in samples at 16 kHz."""
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise UsageError(f"its {name!r} is {value!r}: expected seconds, as `pdid label export` has written them")
    return round(value * RATE)


def _author(user: Any) -> str:
    """The annotator's name; a bare number is the user's id in Label Studio."""
    if isinstance(user, dict):
        user = next((user[key] for key in ("email", "username", "id") if user.get(key)), None)
    if user is None:
        return ""
    if isinstance(user, bool) or not isinstance(user, int | str):
        raise UsageError(f"the annotator is {user!r}: expected a number or a name")
    return f"Label Studio user {user}" if isinstance(user, int) or user.isdecimal() else user


def _moment(annotation: Mapping[str, Any]) -> datetime:
    """When the annotation was last changed, UTC."""
    text = annotation.get("updated_at") or annotation.get("created_at")
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        moment = None
    if moment is None:
        raise UsageError(f"the annotation's time is {text!r}: expected one such as 2026-01-31T12:30:00Z")
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
