"""What people and models say of recordings: accent labels, transcripts, who is whom across recordings.

    with open_catalog(corpus, write=True) as catalog:
        write_transcripts(catalog, transcripts)

Nothing said is ever overwritten; what holds for each piece follows from all of it (`catalog.resolve`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, fields

from catalog import rows
from catalog.records import Label, LabelOrigin, LinkRule, Scope, Stretch, Transcript
from catalog.resolve import resolve
from catalog.store import Catalog

INSERT_LABEL = """
INSERT OR IGNORE INTO base.label (
    label_id, source_id, scope, start_sample, end_sample, raw, accent, origin, author, created_at, confidence
) SELECT
    unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::BIGINT[]), unnest(?::BIGINT[]),
    unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::TIMESTAMP[]),
    unnest(?::DOUBLE[])
"""
INSERT_TRANSCRIPT = """
INSERT OR IGNORE INTO base.transcript (
    transcript_id, source_id, start_sample, end_sample, text, origin, created_at, language, model, confidence, flags
) SELECT
    unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::BIGINT[]), unnest(?::BIGINT[]), unnest(?::VARCHAR[]),
    unnest(?::VARCHAR[]), unnest(?::TIMESTAMP[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::DOUBLE[]),
    unnest(?::VARCHAR[][])
"""
INSERT_LINK = "INSERT INTO base.link (local_id, speaker_id) SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[])"
INSERT_RULE = """
INSERT OR IGNORE INTO base.link_rule (
    rule_id, kind, source_a, start_a, end_a, source_b, start_b, end_b, author, created_at
) SELECT
    unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::BIGINT[]), unnest(?::BIGINT[]),
    unnest(?::VARCHAR[]), unnest(?::BIGINT[]), unnest(?::BIGINT[]), unnest(?::VARCHAR[]), unnest(?::TIMESTAMP[])
"""


def write_judgements(catalog: Catalog, labels: Iterable[Label], transcripts: Iterable[Transcript]) -> None:
    """Add labels and transcripts, all or none, and settle anew what they are about; none is added twice.

    What is said of a recording that was taken down is passed over. Raises PdidError if a row
    breaks a rule of the schema; nothing is written then.
    """
    said, texts = list(labels), list(transcripts)
    with catalog.transaction():
        rows.insert(catalog.connection, INSERT_LABEL, ((_id(label), *_values(label)) for label in said))
        rows.insert(catalog.connection, INSERT_TRANSCRIPT, ((_id(text), *_values(text)) for text in texts))
        for table in ("label", "transcript"):  # whoever says it may have begun before a takedown
            catalog.connection.execute(
                f"DELETE FROM base.{table} WHERE source_id IN (SELECT source_id FROM base.removal)"
            )
        resolve(catalog.connection, sorted({label.source_id for label in said} | {text.source_id for text in texts}))


def write_labels(catalog: Catalog, labels: Iterable[Label]) -> None:
    """As `write_judgements`, with labels alone."""
    write_judgements(catalog, labels, ())


def labels(catalog: Catalog, source_ids: Sequence[str] | None = None) -> list[Label]:
    """The labels of some sources, or of all, oldest first; not those of the sources' own metadata."""
    found = catalog.all(
        "SELECT source_id, scope, start_sample, end_sample, raw, accent, origin, author, created_at, confidence"
        " FROM base.label WHERE ?::VARCHAR[] IS NULL OR source_id IN (SELECT unnest(?::VARCHAR[]))"
        " ORDER BY created_at, label_id",
        [source_ids, source_ids],
    )
    return [
        Label(r[0], Scope(r[1]), r[2], r[3], r[4], r[5], LabelOrigin(r[6]), r[7], rows.moment(r[8]), r[9])
        for r in found
    ]


def write_transcripts(catalog: Catalog, transcripts: Iterable[Transcript]) -> None:
    """As `write_judgements`, with transcripts alone."""
    write_judgements(catalog, (), transcripts)


def transcripts(catalog: Catalog, source_ids: Sequence[str] | None = None) -> list[Transcript]:
    """The transcripts of some sources, or of all, by source and time."""
    found = catalog.all(
        "SELECT source_id, start_sample, end_sample, text, origin, created_at, language, model, confidence, flags"
        " FROM base.transcript WHERE ?::VARCHAR[] IS NULL OR source_id IN (SELECT unnest(?::VARCHAR[]))"
        " ORDER BY source_id, start_sample, created_at, transcript_id",
        [source_ids, source_ids],
    )
    return [Transcript(r[0], r[1], r[2], r[3], r[4], rows.moment(r[5]), r[6], r[7], r[8], tuple(r[9])) for r in found]


def write_links(catalog: Catalog, links: Mapping[str, str]) -> None:
    """Say who is whom: local speaker id → corpus-wide one. Takes the place of all links there were."""
    with catalog.transaction():
        catalog.connection.execute("DELETE FROM base.link")
        rows.insert(catalog.connection, INSERT_LINK, sorted(links.items()))


def links(catalog: Catalog) -> dict[str, str]:
    """Local speaker id → corpus-wide one."""
    return dict(catalog.all("SELECT local_id, speaker_id FROM base.link ORDER BY local_id"))


def write_link_rules(catalog: Catalog, rules: Iterable[LinkRule]) -> None:
    """Add what somebody says of who is whom."""
    said = list(rules)
    with catalog.transaction():
        rows.insert(
            catalog.connection,
            INSERT_RULE,
            (
                (_id(rule), "same" if rule.same else "different", *astuple(rule.a), *astuple(rule.b), *_end(rule))
                for rule in said
            ),
        )


def link_rules(catalog: Catalog) -> list[LinkRule]:
    """What somebody said of who is whom, oldest first."""
    found = catalog.all(
        "SELECT kind, source_a, start_a, end_a, source_b, start_b, end_b, author, created_at"
        " FROM base.link_rule ORDER BY created_at, rule_id"
    )
    return [LinkRule(r[0] == "same", Stretch(*r[1:4]), Stretch(*r[4:7]), r[7], rows.moment(r[8])) for r in found]


def _end(rule: LinkRule) -> Sequence[object]:
    return (rule.author, rule.created_at)


def _id(record: Label | Transcript | LinkRule) -> str:
    """16 hex digits of the hash of what is said; when it was said plays a part too."""
    text = json.dumps(_values(record), default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _values(record: Label | Transcript | LinkRule) -> tuple[object, ...]:
    """A record as a tuple, as `astuple` has it, which copies deeply and takes longer than writing the rows."""
    values = (getattr(record, field.name) for field in fields(record))
    return tuple(astuple(value) if isinstance(value, Stretch) else value for value in values)
