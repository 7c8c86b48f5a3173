"""The report's main tables as a Markdown page: `python -m asr_experiments.report.markdown RUNFOLDER OUT.md`."""

from __future__ import annotations

import sys
from pathlib import Path

from asr_experiments.experiment import write_file
from asr_experiments.report import tables
from asr_experiments.report.outcome import answers
from asr_experiments.report.rates import comparisons, rates
from asr_experiments.report.results import read_results
from asr_experiments.report.write import grids
from catalog.errors import PdidError, UsageError


def write_markdown(folder: Path, out: Path) -> None:
    """Write an experiment's tables and its answers as Markdown; `folder` is CORPUS/runs/ID.

    Raises as `read_results` does.
    """
    folder = folder.resolve()
    results = read_results(folder.parent.parent, folder.name)
    found, compared = rates(results), comparisons(results)
    said = [f"- {one.question}, {one.text}" for one in answers(compared)]
    facts = [
        f"Model {results.told.get('model_version')}, data {results.told.get('data_fingerprint')},"
        f" arms {', '.join(results.arms)}, seeds {', '.join(map(str, results.seeds))}."
    ]
    parts = [f"# Experiment {results.experiment_id}", *facts, "\n".join(said)]
    parts += [tables.markdown(grid) for grid in grids(results, found, compared)]
    write_file(out, "\n\n".join(part.strip() for part in parts if part) + "\n")


def main(arguments: list[str]) -> int:
    """Exit status: 0, or 2 with a sentence on standard error."""
    try:
        if len(arguments) != 2:
            raise UsageError("expected two arguments: the experiment's folder and the file to write")
        write_markdown(Path(arguments[0]), Path(arguments[1]))
    except PdidError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
