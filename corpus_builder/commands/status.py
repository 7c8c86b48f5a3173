"""`pdid status`: what the corpus holds and what is left to do."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from catalog.removals import removals
from catalog.store import Answer, Catalog, open_catalog
from corpus_builder.commands.options import corpus_option, json_option
from corpus_builder.commands.sql import write_table
from corpus_builder.config import load_settings
from corpus_builder.taxonomy import Taxonomy, load_taxonomy

EXAMPLES = """\b
Examples:
  pdid status
  pdid status --corpus tv --json
"""

SHOWN = 20
"""Failed sources named on the screen; `--json` and `pdid sql @failed_sources` have them all."""


@click.command(epilog=EXAMPLES)
@corpus_option
@json_option
def status(corpus: Path, as_json: bool) -> None:
    """Sources done, failed and pending, hours by accent, why pieces were rejected, the newest split, unknown labels."""
    taxonomy = load_taxonomy(load_settings(corpus).taxonomy, corpus)
    with open_catalog(corpus) as catalog:
        found = summarize(catalog, taxonomy)
    if as_json:
        sys.stdout.write(json.dumps({"corpus": str(corpus), **found}, ensure_ascii=False) + "\n")
    else:
        _print(corpus, found)


def summarize(catalog: Catalog, taxonomy: Taxonomy) -> dict[str, Any]:
    """The figures of `pdid status`: counts, and hours of sound."""
    by_status = dict(catalog.query("SELECT status, count(*) FROM sources GROUP BY ALL").rows)
    accents = _objects(
        catalog,
        """
        WITH clips AS (
            SELECT source_id, sum(duration_s) AS kept_s, count(*) AS clips FROM segments WHERE kept GROUP BY source_id
        )
        SELECT accent, count(*) AS sources, coalesce(sum(duration_s), 0) / 3600 AS hours_raw,
            coalesce(sum(kept_s), 0) / 3600 AS hours_kept, coalesce(sum(clips), 0)::BIGINT AS clips
        FROM sources LEFT JOIN clips USING (source_id)
        GROUP BY accent
        ORDER BY hours_raw DESC, accent
        """,
    )
    rejected = _objects(
        catalog,
        "SELECT reject_reason AS reason, sum(duration_s) / 3600 AS hours, count(*) AS pieces FROM segments"
        " WHERE NOT kept GROUP BY ALL ORDER BY hours DESC, reason",
    )
    split = _objects(
        catalog,
        "SELECT split, count(*) AS clips, coalesce(sum(duration_s), 0) / 3600 AS hours FROM segments"
        " WHERE split IS NOT NULL GROUP BY split ORDER BY split",
    )
    texts = _objects(
        catalog,
        "SELECT text_origin AS origin, sum(duration_s) / 3600 AS hours, count(*) AS clips FROM segments"
        " WHERE kept AND text_origin IS NOT NULL GROUP BY ALL ORDER BY hours DESC, origin",
    )
    splits = catalog.splits()
    removed = {removal.source_id for removal in removals(catalog)}
    stale = [row["split_name"] for row in _objects(catalog, "SELECT DISTINCT split_name FROM splits WHERE stale")]
    return {
        "sources": {name: by_status.get(name, 0) for name in ("done", "failed", "pending")},
        "removed": len(removed),
        "hours_raw": sum(row["hours_raw"] for row in accents),
        "hours_kept": sum(row["hours_kept"] for row in accents),
        "hours_with_text": sum(row["hours"] for row in texts),
        "accents": accents,
        "texts": texts,
        "rejected": rejected,
        "failed": _objects(catalog, "SELECT uri, error FROM sources WHERE status = 'failed' ORDER BY uri"),
        "split": {"name": splits[-1].name, "stale": splits[-1].name in stale, "parts": split} if splits else None,
        "unknown_accents": sorted(
            row["accent"] for row in accents if row["accent"] and not taxonomy.known(row["accent"])
        ),
    }


def _objects(catalog: Catalog, sql: str) -> list[dict[str, Any]]:
    answer = catalog.query(sql)
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def _print(corpus: Path, found: dict[str, Any]) -> None:
    counts = found["sources"]
    click.echo(f"{corpus}: {counts['done']} sources done, {counts['failed']} failed, {counts['pending']} pending")
    if found["removed"]:
        click.echo(f"{found['removed']} recordings were taken down and stay out: pdid sql @removals")
    click.echo(
        f"{found['hours_raw']:.2f} hours of recordings, {found['hours_kept']:.2f} hours kept, "
        f"{found['hours_with_text']:.2f} of them with text"
    )
    _table("Hours by accent", [row | {"accent": row["accent"] or "(none)"} for row in found["accents"]])
    _table("Texts", found["texts"])
    _table("Rejected", found["rejected"])
    if found["split"]:
        stale = ", stale: clips of it were taken down" if found["split"]["stale"] else ""
        _table(f"Newest split: {found['split']['name']}{stale}", found["split"]["parts"])
    _table("Failed (the next `pdid ingest` tries them again)", found["failed"][:SHOWN])
    if len(found["failed"]) > SHOWN:
        click.echo(f"and {len(found['failed']) - SHOWN} more: pdid sql @failed_sources")
    if found["unknown_accents"]:
        click.echo(f"\nAccent labels the taxonomy doesn't know: {', '.join(found['unknown_accents'])}")


def _table(title: str, objects: list[dict[str, Any]]) -> None:
    if objects:
        click.echo(f"\n{title}")
        rows = [tuple(round(v, 3) if isinstance(v, float) else v for v in row.values()) for row in objects]
        write_table(Answer(tuple(objects[0]), iter(rows)))
