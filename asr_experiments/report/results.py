"""What an experiment found, read from the catalog and its folder: cells, scores, and the experiments beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from asr_experiments.arms import ARMS, UNTRAINED
from asr_experiments.datasets import Utterance
from asr_experiments.experiment import CLIPS_FILE, SETTINGS_FILE, load_clips, load_settings
from asr_experiments.scoring import NORMALISED, Group, Score, groups, score, text_forms
from catalog.errors import PdidError
from catalog.experiments import predictions, runs
from catalog.records import Prediction, Run
from catalog.store import open_catalog

NEVER_RUN = "missing: not run yet, or stopped"


@dataclass(frozen=True, slots=True)
class CellResult:
    """One cell of the matrix; `why` says why it has no scores."""

    arm: str
    seed: int
    run: Run | None
    scores: tuple[Score, ...] = ()
    why: str | None = None

    @property
    def metrics(self) -> dict[str, Any]:
        return self.run.metrics if self.run else {}


@dataclass(frozen=True, slots=True)
class Sibling:
    """Another experiment on the same clips."""

    experiment_id: str
    same_sides: bool  # else some clips are on another side of the split, as when an accent is left out
    told: dict[str, Any]  # as in its experiment.json
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Results:
    """An experiment with all that is known of it."""

    corpus: Path
    experiment_id: str
    told: dict[str, Any]  # as in experiment.json
    utterances: tuple[Utterance, ...]
    cells: tuple[CellResult, ...]
    siblings: tuple[Sibling, ...] = field(default=())

    @property
    def folder(self) -> Path:
        return self.corpus / "runs" / self.experiment_id

    @property
    def settings(self) -> dict[str, Any]:
        found = self.told["settings"]
        assert isinstance(found, dict)
        return found

    @property
    def language(self) -> str | None:
        return self.settings.get("language")

    @property
    def form(self) -> str:
        """The text form that the headline counts errors on."""
        form = str(self.settings.get("score", NORMALISED))
        return form if form in self.forms else NORMALISED

    @cached_property
    def forms(self) -> tuple[str, ...]:
        return tuple(text_forms(self.language))

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """The arms that were begun, in the usual order."""
        begun = {cell.arm for cell in self.cells}
        return tuple(arm for arm in ARMS if arm in begun) + tuple(sorted(begun - set(ARMS)))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({cell.seed for cell in self.cells}))

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The table's groups, by the test clips; their scores are empty."""
        unscored = [Score(u.segment_id, u.accent, u.speaker, u.text, "", {}) for u in self.of("test")]
        return tuple(groups(unscored, self.told.get("trained_on", ()), self.settings.get("standard")))

    def of(self, split: str) -> list[Utterance]:
        return [utterance for utterance in self.utterances if utterance.split == split]

    def cell(self, arm: str, seed: int) -> CellResult:
        """A cell, one that says it is missing where there is none."""
        return next(
            (c for c in self.cells if (c.arm, c.seed) == (arm, seed)), CellResult(arm, seed, None, (), NEVER_RUN)
        )

    def matrix(self) -> list[CellResult]:
        """Every begun arm with every begun seed, missing cells included; the untrained model has one cell."""
        return [
            self.cell(arm, seed)
            for arm in self.arms
            for seed in (self.seeds_of(arm)[:1] or self.seeds[:1] if arm == UNTRAINED else self.seeds)
        ]

    def seeds_of(self, arm: str) -> tuple[int, ...]:
        """The seeds of an arm's cells that have scores; where none has, those of its failed ones."""
        scored = tuple(c.seed for c in self.cells if c.arm == arm and c.scores)
        return tuple(sorted(scored or (c.seed for c in self.cells if c.arm == arm)))

    def scored(self, arm: str) -> dict[int, tuple[Score, ...]]:
        """Seed -> scores of an arm's finished cells."""
        return {seed: self.cell(arm, seed).scores for seed in self.seeds_of(arm) if self.cell(arm, seed).scores}

    @cached_property
    def finished(self) -> tuple[str, ...]:
        """The arms that have scores."""
        return tuple(arm for arm in self.arms if self.scored(arm))


def read_results(corpus: Path, experiment_id: str) -> Results:
    """Read an experiment, its errors counted anew from what was said.

    The catalog is held only while it is read. Raises PdidError where there is no such experiment, UsageError where
    the corpus has no catalog.
    """
    folder = corpus / "runs" / experiment_id
    told, utterances = load_settings(folder), tuple(load_clips(folder))
    with open_catalog(corpus) as catalog:
        every = runs(catalog)
        said = {run.run_id: predictions(catalog, run.run_id) for run in every if run.experiment_id == experiment_id}
    test = [utterance for utterance in utterances if utterance.split == "test"]
    language = told["settings"].get("language")
    found = tuple(_cell(run, said[run.run_id], test, language) for run in every if run.experiment_id == experiment_id)
    return Results(corpus, experiment_id, told, utterances, found, tuple(_siblings(corpus, told, utterances, every)))


def _cell(run: Run, said: list[Prediction], test: list[Utterance], language: str | None) -> CellResult:
    if "error" in run.metrics:
        return CellResult(run.arm, run.seed, run, (), f"failed: {run.metrics['error']}")
    try:
        scores = score(test, {one.segment_id: one.hypothesis for one in said}, language)
    except PdidError as error:
        return CellResult(run.arm, run.seed, run, (), f"its predictions are incomplete: {error}")
    return CellResult(run.arm, run.seed, run, tuple(scores))


def _siblings(
    corpus: Path, told: dict[str, Any], utterances: tuple[Utterance, ...], every: list[Run]
) -> Iterator[Sibling]:
    """The corpus' other experiments on the same data, and those that put the same clips on other sides."""
    mine = {utterance.segment_id for utterance in utterances}
    for path in sorted((corpus / "runs").glob(f"*/{SETTINGS_FILE}")):
        other = path.parent.name
        try:
            theirs = json.loads(path.read_text("utf-8"))
            if theirs["experiment_id"] != other or other == told["experiment_id"]:
                continue
            same = theirs["data_fingerprint"] == told["data_fingerprint"]
            if not same and (
                not (path.parent / CLIPS_FILE).exists() or {u.segment_id for u in load_clips(path.parent)} != mine
            ):
                continue
        except (OSError, ValueError, KeyError, PdidError):  # somebody else's folder, or a damaged one: no sibling
            continue
        yield Sibling(other, same, theirs, tuple(run for run in every if run.experiment_id == other))
