"""Benchmark runs and what they said, in and out of the catalog."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import astuple

from catalog import rows
from catalog.records import Prediction, Run
from catalog.store import Catalog

INSERT_PREDICTION = """
INSERT INTO base.prediction (run_id, segment_id, reference, hypothesis, errors)
SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::INTEGER[])
"""


def write_run(catalog: Catalog, run: Run, predictions: Iterable[Prediction]) -> None:
    """Put in a run with all its predictions, in place of what was there of it.

    Those of clips that were taken down meanwhile are left out. Raises PdidError if a row
    breaks a rule of the schema; nothing is written then.
    """
    said = list(predictions)
    config, metrics = (json.dumps(part, ensure_ascii=False, sort_keys=True) for part in (run.config, run.metrics))
    with catalog.transaction():
        catalog.connection.execute("DELETE FROM base.prediction WHERE run_id = ?", [run.run_id])
        catalog.connection.execute(
            "INSERT OR REPLACE INTO base.run (run_id, experiment_id, arm, seed, model, config, metrics, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [run.run_id, run.experiment_id, run.arm, run.seed, run.model, config, metrics, rows.plain(run.created_at)],
        )
        rows.insert(catalog.connection, INSERT_PREDICTION, map(astuple, said))
        catalog.connection.execute(
            "DELETE FROM base.prediction WHERE run_id = ? AND segment_id IN"
            " (SELECT segment_id FROM base.removed_segment)",
            [run.run_id],
        )


def runs(catalog: Catalog, experiment_id: str | None = None) -> list[Run]:
    """The runs of an experiment, or all, oldest first."""
    found = catalog.all(
        "SELECT run_id, experiment_id, arm, seed, model, config, metrics, created_at FROM base.run"
        " WHERE ?::VARCHAR IS NULL OR experiment_id = ? ORDER BY created_at, run_id",
        [experiment_id, experiment_id],
    )
    return [Run(r[0], r[1], r[2], r[3], r[4], json.loads(r[5]), json.loads(r[6]), rows.moment(r[7])) for r in found]


def predictions(catalog: Catalog, run_id: str) -> list[Prediction]:
    """What a run said, by segment id."""
    found = catalog.all(
        "SELECT run_id, segment_id, reference, hypothesis, errors FROM base.prediction"
        " WHERE run_id = ? ORDER BY segment_id",
        [run_id],
    )
    return [Prediction(*row) for row in found]
