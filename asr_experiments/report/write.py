"""The report of an experiment: one HTML file that works offline, and its tables as CSV and LaTeX."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from asr_experiments.experiment import write_file
from asr_experiments.report import accents, outcome, studies, tables, training
from asr_experiments.report.rates import REFERENCES, UNITS, Comparison, Rate, comparisons, rates
from asr_experiments.report.results import Results, read_results
from asr_experiments.report.tables import Grid
from asr_experiments.report.triptychs import triptychs
from catalog.errors import PdidError
from catalog.page import bdi, el, join, page

NAME = "report.html"
TABLES = "tables"


def write_report(corpus: Path, experiment_id: str) -> Path:
    """Write runs/ID/report.html and the tables beside it, in place of older ones; returns the page's path.

    The catalog is held only while it is read. Raises PdidError where there is no such experiment or a file can't be
    written, UsageError where the corpus has no catalog.
    """
    results = read_results(corpus, experiment_id)
    found, compared = rates(results), comparisons(results)
    sections = [
        outcome.overview(results, compared),
        outcome.error_rates(results, found),
        outcome.published(results, found),
        accents.by_accent(results, found),
        accents.differences(results, compared),
        triptychs(results),
        training.learning(results),
        studies.classifier(results),
        studies.sanity(results),
        training.cells(results),
        training.settings(results),
        training.siblings(results),
    ]
    text = page(
        f"Experiment {experiment_id}",
        [section for section in sections if section],
        intro=join(
            "Does masking what betrays the accent help? ",
            el("code", results.told.get("model_version", "?")),
            " fine-tuned arm by arm on the same clips in the same number of updates. The tables lie in ",
            el("code", f"{TABLES}/"),
            " beside this file.",
        ),
        foot=join(
            f"Written by pdid {version('pdid')} on {datetime.now(UTC):%Y-%m-%d at %H:%M} UTC about the corpus ",
            bdi(corpus.resolve().name),
            ". This file needs no network and asks for none.",
        ),
        css=[(files("asr_experiments") / "report" / "report.css").read_text("utf-8")],
    )
    path = results.folder / NAME
    try:
        for name, content in table_files(results, found, compared).items():
            write_file(results.folder / TABLES / name, content)
        write_file(path, text)
    except OSError as error:
        raise PdidError(f"the report {path} can't be written: {error.strerror or error}") from None
    return path


def grids(results: Results, found: list[Rate], compared: list[Comparison]) -> list[Grid]:
    """The tables to read: rates by group and accent in every text form, differences, shares masked, cells."""
    made = [
        tables.rate_grid(results, found, form, unit, of_accents)
        for form in sorted(results.forms, key=lambda form: form != results.form)
        for unit in UNITS
        for of_accents in (False, True)
    ]
    made += [
        tables.comparison_grid(compared, reference, results.form)
        for reference in REFERENCES
        if any(one.reference == reference for one in compared)
    ]
    shares = tables.share_grid(results)
    return [*made, *([shares] if shares.rows else []), tables.cell_grid(results)]


def table_files(results: Results, found: list[Rate], compared: list[Comparison]) -> dict[str, str]:
    """File name -> content of every table, CSV (shares, one figure a column) and LaTeX (to read)."""
    written = {
        "rates.csv": tables.rates_csv(found),
        "differences.csv": tables.comparisons_csv(compared),
        "mapsswe.csv": tables.mapsswe_csv(compared),
        "curves.csv": tables.curves_csv(results),
        "cells.csv": tables.cells_csv(results),
    }
    return written | {f"{grid.name}.tex": tables.latex(grid) for grid in grids(results, found, compared)}
