"""The matrix: every arm with every seed, each cell a row in `runs`, every hypothesis a row in `predictions`."""

from __future__ import annotations

import importlib.util
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from asr_experiments import studies
from asr_experiments.aligning.cell import prepare_taught
from asr_experiments.aligning.network import save_ctc
from asr_experiments.arms import TAUGHT, UNTRAINED, WITHOUT_MAPS, ArmName, make_augment
from asr_experiments.cam import Method, SaliencyMaps
from asr_experiments.checkpoint import save_whisper
from asr_experiments.classifier import Classifier, load_classifier
from asr_experiments.experiment import Cell, Experiment, claim, environment, save_experiment
from asr_experiments.finetune import Finetuned, finetune
from asr_experiments.hearing import dev_curve, log_mels, measure, training_data
from asr_experiments.training_set import FinetuneSettings, paper_settings
from catalog.errors import PdidError, UsageError
from catalog.experiments import runs, write_run
from catalog.records import Prediction, Run
from catalog.store import open_catalog
from catalog.whisper import Whisper, check_language, load_whisper

T = TypeVar("T")

COMMIT_WAIT_S = 600.0
"""Seconds a finished cell waits for whoever holds the catalog: its work may have taken hours."""

Report = Callable[[str, float], None]
"""Called with what is being done and the share of it that is done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a cell: `fresh` where it was worked on now; `error` where it failed."""

    cell: Cell
    run: Run | None  # None where another process has it in work
    fresh: bool

    @property
    def error(self) -> str | None:
        return self.run.metrics.get("error") if self.run else None


def check_cells(experiment: Experiment, wanted: Sequence[Cell]) -> None:
    """Raise UsageError for what every cell, or every one of an arm, would fail of: better now than in hours.

    That is a language the model does not know, saliency of a classifier with one accent to learn, and low-rank
    matrices in a Conformer.
    """
    needing = next((cell.arm for cell in wanted if cell.arm not in WITHOUT_MAPS), None)
    if needing and len(experiment.trained_on) < 2:
        raise UsageError(
            f"the arm {needing} masks what tells accents apart, and the training clips have only one "
            f"({', '.join(experiment.trained_on)}): leave the arm out, or add speech with other accents"
        )
    settings = experiment.settings
    if settings.lora and settings.align.encoder == "conformer" and any(cell.arm in TAUGHT for cell in wanted):
        raise UsageError("--lora adds to a trained encoder, and the conformer is a new one: leave one of the two out")
    check_language(load_whisper(settings.model, "cpu"), settings.language)


def run_cells(experiment: Experiment, wanted: Sequence[Cell], report: Report) -> Iterator[Outcome]:
    """Run the cells that are not done, in order; yields each one's outcome once it is in the catalog.

    A cell that another process has in work is passed over. A cell whose training breaks down is recorded with the
    reason, and the others go on; a later run tries it again. Stopping loses at most the epoch at hand. Under
    `accelerate launch` all processes work on one cell at a time, and the first writes. Raises UsageError as
    `check_cells` does, and PdidError where the model, the data or the catalog can't be used.
    """
    check_cells(experiment, wanted)
    team = Team()
    if team.first:
        save_experiment(experiment)
    for cell in wanted:
        folder = experiment.cell_folder(cell)
        with claim(folder, wait=False) if team.first else nullcontext(False) as claimed:
            mine = team.agree(claimed)
            # read anew for each cell: another process may have finished it since
            old = team.agree(_finished(experiment, cell) if team.first else None)
            if old or not mine:
                yield Outcome(cell, old, False)
                continue
            try:
                run, said = run_cell(experiment, cell, report, team)
            except PdidError as error:
                run, said = _record(experiment, cell, {"error": str(error)}), []
            if team.first:
                with open_catalog(experiment.corpus, write=True, wait_s=COMMIT_WAIT_S) as catalog:
                    write_run(catalog, run, said)
                if "error" not in run.metrics:
                    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
            yield Outcome(cell, run, True)


class Team:
    """The processes of an `accelerate launch`; without one, this process alone."""

    def __init__(self) -> None:
        import torch
        from accelerate import PartialState

        state = PartialState(cpu=not torch.cuda.is_available())
        self.alone, self.first = state.num_processes == 1, bool(state.is_main_process)
        self.device = None if self.alone else str(state.device)

    def agree(self, value: T) -> T:
        """What the first process says, in all of them."""
        if self.alone:
            return value
        from accelerate.utils import broadcast_object_list

        box = [value]
        broadcast_object_list(box)
        return box[0]


def _finished(experiment: Experiment, cell: Cell) -> Run | None:
    """The cell's run, if it is there and did not fail."""
    run_id = experiment.run_id(cell)
    with open_catalog(experiment.corpus, write=True, wait_s=COMMIT_WAIT_S) as catalog:  # makes it where there is none
        found = runs(catalog, experiment.experiment_id)
    return next((run for run in found if run.run_id == run_id and "error" not in run.metrics), None)


def run_cell(experiment: Experiment, cell: Cell, report: Report, team: Team) -> tuple[Run, list[Prediction]]:
    """Train one arm with one seed, test it, and save its weights in the cell's folder."""
    began = time.monotonic()
    whisper = load_whisper(experiment.settings.model, team.device)
    maps = prepare_maps(experiment, whisper, cell.arm, report)
    taught = prepare_taught(experiment, whisper, cell, report)
    folder = experiment.cell_folder(cell)
    metrics: dict[str, Any] = {}
    settings = finetune_settings(experiment, whisper, cell)
    if cell.arm != UNTRAINED:
        data = training_data(experiment, whisper, taught)
        dev = experiment.of("dev")
        made = finetune(
            whisper,
            data,
            settings,
            loss_of=taught.loss_of if taught else None,
            augment=make_augment(cell.arm, maps, experiment.settings.mask),
            arm=cell.arm,
            folder=folder / "checkpoint",
            evaluate=dev_curve(experiment, whisper, dev, taught) if dev else None,
            hook=lambda step, n, loss: report(f"{cell.name}: training", step / n),
            logs=_logs(folder),
        )
        metrics |= _of_training(made)
        if team.first and taught:
            save_ctc(taught.network, whisper, folder / "model")
        elif team.first:
            save_whisper(whisper, folder / "model")
    scores, told = measure(experiment, whisper, lambda share: report(f"{cell.name}: testing", share), taught)
    metrics |= told | {"seconds": time.monotonic() - began, "peak_memory_bytes": peak_memory(whisper)}
    run = _record(experiment, cell, metrics, settings, str(whisper.device))
    said = [
        Prediction(run.run_id, s.segment_id, s.reference, s.hypothesis, s.errors[experiment.settings.score].errors)
        for s in scores
    ]
    return run, said


def _record(
    experiment: Experiment,
    cell: Cell,
    metrics: dict[str, Any],
    training: FinetuneSettings | None = None,
    device: str | None = None,
) -> Run:
    config = {
        "settings": asdict(experiment.settings),
        "training": asdict(training) if training else None,
        "data_fingerprint": experiment.data_fingerprint,
        "model_version": experiment.model_version,
        "trained_on": experiment.trained_on,
        "environment": environment(),
        "device": device,
    }
    model = experiment.settings.model
    run_id, now = experiment.run_id(cell), datetime.now(UTC)
    return Run(run_id, experiment.experiment_id, cell.arm, cell.seed, model, config, metrics, now)


# ---------------------------------------------------------------- before training


def finetune_settings(experiment: Experiment, whisper: Whisper, cell: Cell) -> FinetuneSettings:
    """The paper's for the model's size, and what the experiment says instead."""
    settings = experiment.settings
    said = {name: getattr(settings, name) for name in ("epochs", "batch_size", "learning_rate")}
    changes = {name: value for name, value in said.items() if value is not None}
    return paper_settings(
        whisper,
        **changes,
        seed=cell.seed,
        context=settings.context,
        lora=settings.lora,
        fresh_draws=settings.mask.fresh,
    )


def prepare_maps(experiment: Experiment, whisper: Whisper, arm: ArmName, report: Report) -> SaliencyMaps | None:
    """The training clips' saliency maps for an arm, made on first need; None for arms that look at none."""
    if arm in WITHOUT_MAPS:
        return None
    made = obtain_classifier(experiment, whisper, report)
    train = experiment.of("train")
    method: Method = "gradcam++" if arm == "saliency++" else "gradcam"
    cam = replace(experiment.settings.cam, method=method)
    maps = SaliencyMaps(made, log_mels(experiment, whisper, train), cam, [u.accent for u in train])
    maps.prepare(lambda share: report("saliency maps", share))
    return maps


def obtain_classifier(experiment: Experiment, whisper: Whisper, report: Report) -> Classifier:
    """The experiment's accent classifier; experiments with the same clips, settings and features share one."""
    own, device = experiment.folder / "classifier", str(whisper.device)
    if not (own / studies.CLASSIFIER_FILE).exists():
        settings = experiment.settings.classifier
        made = studies.obtain_classifier(
            experiment.corpus, experiment.utterances, whisper.feature_extractor, settings, device, report
        )
        with claim(experiment.folder, wait=True):
            studies.copy_classifier(made, own)
    return load_classifier(own, device)


# ---------------------------------------------------------------- after training


def _of_training(made: Finetuned) -> dict[str, Any]:
    shares = [row["share_masked"] for row in made.epochs]
    return {
        "losses": made.losses,
        "epochs": made.epochs,
        "n_updates": made.n_updates,
        "n_clips": made.n_clips,
        "n_trained": made.n_trained,
        "micro_batch": made.micro_batch,
        "resumed_from": made.resumed_from,
        "left_out": made.left_out,
        "share_masked": sum(shares) / len(shares),
        "seconds_training": made.seconds,
    }


def _logs(folder: Path) -> Path | None:
    """Where TensorBoard's files go; None where it is not installed."""
    return folder / "tensorboard" if importlib.util.find_spec("tensorboard") else None


def peak_memory(whisper: Whisper) -> int:
    """Bytes: of the GPU since the process began where the model is on one, else of the process."""
    if whisper.device.type == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
