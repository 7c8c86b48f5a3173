"""What a run would fetch: web addresses looked at, nothing downloaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from corpus_builder.acquire.records import Choice, FetchError, FetchSettings
from corpus_builder.plan import Plan
from corpus_builder.survey import Need, Task, known_of, task_of


def listed(tasks: Iterable[Task], corpus: Path, plan: Plan, settings: FetchSettings, choice: Choice) -> Iterator[Task]:
    """The tasks, those of web addresses that aren't done as what they lead to, each once; an address that can't be
    looked at has its error."""
    from corpus_builder.acquire.web import look

    known = known_of(corpus)
    seen: set[str] = set()
    for task in tasks:
        request = task.request
        if request.address is None or task.size_bytes or task.need in (Need.NOTHING, Need.REFUSED):
            seen.add(request.uri)
            yield task
            continue
        try:
            entries = look(request.address, choice, settings)
        except FetchError as error:
            yield replace(task, error=error.why)
            continue
        for entry in entries:
            if entry.uri not in seen:
                seen.add(entry.uri)
                found = replace(request, uri=entry.uri)
                yield replace(task_of(found, corpus, known, plan, entry), entry=entry)
