"""Options of the benchmark and its studies, and what they mean together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from catalog.errors import UsageError

if TYPE_CHECKING:
    from asr_experiments.aligning.loss import AlignSettings
    from asr_experiments.datasets import Utterance
    from asr_experiments.experiment import BenchmarkSettings

F = TypeVar("F", bound=Callable[..., Any])

THRESHOLDS: Mapping[str, tuple[float, float, float]] = {
    "paper": (0.3, 0.5, 0.7),
    "aggressive": (0.2, 0.4, 0.6),
    "conservative": (0.4, 0.6, 0.8),
}

corpus_option = click.option(
    "--corpus",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("corpus"),
    envvar="PDID_CORPUS",
    show_default=True,
    show_envvar=True,
    help="The corpus folder; runs/ in it takes what a benchmark makes.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object per line on standard output.")


def data_options(command: F) -> F:
    """What to run on, and with which model."""
    for option in reversed(
        [
            click.option("--split", help="A split of the corpus.  [default: the newest]"),
            click.option(
                "--dataset",
                type=click.Path(path_type=Path, exists=True, dir_okay=False),
                help="A CSV file with clip, text, accent, speaker, split in place of the corpus.",
            ),
            click.option(
                "--model", default="mini", show_default=True, help="A Whisper: size, hub id or folder; mini trains one."
            ),
            click.option("--language", help="Of the speech, such as fa.  [default: what the corpus says]"),
            click.option("--standard", help="The accent the others are compared with.  [default: the taxonomy's]"),
            corpus_option,
            json_option,
        ]
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Data:
    """The clips, and what is known of them as a whole."""

    utterances: list[Utterance]
    language: str | None  # None where it is not known, or there are several
    standard: str | None
    left_out: dict[str, int]  # reason -> clips that can't be used
    languages: tuple[str, ...] = ()  # of the clips, as the corpus has them


def read_data(
    corpus: Path, split: str | None, dataset: Path | None, language: str | None, standard: str | None
) -> Data:
    """The clips that the data options mean; with a language only those of a split that are in it.

    Raises UsageError for both a split and a data set, a language that no clip of the split is in, and bad data.
    """
    from asr_experiments.datasets import from_split, left_out, read_dataset, split_facts

    if dataset is not None:
        if split is not None:
            raise UsageError("--split and --dataset: a benchmark runs on one of them; leave the other out")
        return Data(read_dataset(dataset), language, standard, {})
    facts = split_facts(corpus, split)
    spoken = facts.languages
    if language is not None and len(spoken) > 1 and language not in spoken:
        raise UsageError(f"--language: no clip of the split is in {language!r}; there are {', '.join(spoken)}")
    # of one language alone the name may be written otherwise, as Persian for fa
    utterances = from_split(corpus, split, language if len(spoken) > 1 else None)
    if standard is None and any(utterance.accent == facts.standard for utterance in utterances):
        standard = facts.standard
    reasons = left_out(corpus, split, language if len(spoken) > 1 else None)
    return Data(utterances, language or (spoken[0] if len(spoken) == 1 else None), standard, reasons, spoken)


def say_left_out(data: Data) -> None:
    """Tell how many clips of the split can't be used, and why."""
    for reason, n in data.left_out.items():
        click.echo(f"{n} clips of the split are left out: {reason}", err=True)


def numbers(text: str, name: str, count: int | None = None) -> tuple[float, ...]:
    """Comma-separated numbers. Raises UsageError for anything else, or for another count of them."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{name}: expected numbers with commas between, got {text!r}") from None
    if count is not None and len(found) != count:
        raise UsageError(f"{name}: expected {count} numbers, got {len(found)} in {text!r}")
    return found


def read_seeds(text: str) -> list[int]:
    """Comma-separated seeds. Raises UsageError for anything else."""
    try:
        seeds = [int(part) for part in text.split(",")]
        if not seeds or min(seeds) < 0:
            raise ValueError
    except ValueError:
        raise UsageError(f"--seeds: expected whole numbers from 0 with commas between, got {text!r}") from None
    return list(dict.fromkeys(seeds))


def make_settings(model: str, data: Data, chosen: Mapping[str, Any]) -> BenchmarkSettings:
    """The settings that the command line means; `chosen` are the options of `pdid benchmark` by name."""
    from asr_experiments.cam import CamSettings
    from asr_experiments.classifier import ClassifierSettings
    from asr_experiments.experiment import BenchmarkSettings
    from asr_experiments.masking import MaskSettings

    paper = bool(chosen["paper"])
    base = MaskSettings.paper() if paper else MaskSettings()
    said: dict[str, Any] = {name: chosen[name] for name in ("fill", "draw") if chosen[name] is not None}
    if chosen["thresholds"] is not None:
        named = THRESHOLDS.get(chosen["thresholds"])
        said["thresholds"] = named or numbers(chosen["thresholds"], "--thresholds", 3)
    if chosen["probabilities"] is not None:
        a, b, c, d = numbers(chosen["probabilities"], "--probabilities", 4)
        said |= {"low": (a, b), "high": (c, d)}
    kept = {"valid_only": base.valid_only, "fresh": base.fresh}
    return BenchmarkSettings(
        model=model,
        language=data.language,
        standard=data.standard,
        epochs=chosen["epochs"],
        batch_size=chosen["batch_size"],
        learning_rate=chosen["learning_rate"],
        context=chosen["context"],
        lora=chosen["lora"],
        mask=MaskSettings(**(kept | said)),
        cam=CamSettings(layer=chosen["gradcam_layer"], valid_only=not paper),
        classifier=ClassifierSettings.paper() if paper else ClassifierSettings(),
        score=chosen["score"],
        leave_out=chosen["leave_out"],
        align=align_settings(chosen),
    )


ALIGN_OPTIONS = ("encoder", "language_model", "align_weights", "transport")


def align_settings(chosen: Mapping[str, Any]) -> AlignSettings:
    """What the options of the arms `ctc` and `align` mean; a language model is looked for, or fetched.

    Raises UsageError where neither arm is asked for, and for values or a model that can't be used.
    """
    from asr_experiments.aligning.language_model import model_version, obtain_language_model
    from asr_experiments.aligning.loss import AlignSettings
    from asr_experiments.aligning.transport import TransportSettings
    from asr_experiments.arms import TAUGHT, read_arms

    given = {name: chosen[name] for name in ALIGN_OPTIONS if chosen.get(name) is not None}
    if given and not set(TAUGHT) & set(read_arms(chosen["arms"])):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(f"{names}: only the arms {' and '.join(TAUGHT)} use it; name one of them in --arms")
    if "align_weights" in given:
        given["weights"] = numbers(given.pop("align_weights"), "--align-weights", 2)
    if "transport" in given:
        epsilon, *keep, width = numbers(given["transport"], "--transport", 4)
        frames, tokens = (None if side == math.inf else side for side in keep)
        given["transport"] = TransportSettings(epsilon, frames, tokens, width)
    if "language_model" in given:
        folder = obtain_language_model(given["language_model"])
        given |= {"language_model": str(folder), "language_model_version": model_version(folder)}
    return AlignSettings(**given)


def sweep(settings: BenchmarkSettings, kind: str | None, utterances: Sequence[Utterance]) -> list[BenchmarkSettings]:
    """The ready configurations: three sets of thresholds, or every training accent left out in turn."""
    from dataclasses import replace

    if kind == "thresholds":
        return [replace(settings, mask=replace(settings.mask, thresholds=three)) for three in THRESHOLDS.values()]
    if kind == "leave-one-out":
        accents = sorted({u.accent for u in utterances if u.split == "train"} - {settings.standard})
        return [replace(settings, leave_out=accent) for accent in accents]
    return [settings]
