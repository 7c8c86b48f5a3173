"""The report of an experiment: one HTML file that works offline, and its tables as CSV and LaTeX."""

from __future__ import annotations

from pathlib import Path


def write_report(corpus: Path, experiment_id: str) -> Path:
    """Write runs/ID/report.html and the tables beside it; returns the page's path."""
    return corpus / "runs" / experiment_id / "report.html"
