"""How a cell hears: what it is trained and measured on, its transcripts, its rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from asr_experiments.aligning.cell import Taught
from asr_experiments.datasets import Utterance, read_sound
from asr_experiments.experiment import Experiment
from asr_experiments.features import LogMels
from asr_experiments.finetune import mean_loss
from asr_experiments.scoring import Errors, Score, groups, score, total
from asr_experiments.training_set import TrainingSet, training_set
from catalog.context import Context
from catalog.whisper import Whisper, transcribe, transcribe_features

DEV_CLIPS = 64
"""Dev clips that are transcribed after each epoch for the learning curve; the dev loss is over all of them."""


def log_mels(experiment: Experiment, whisper: Whisper, utterances: Sequence[Utterance]) -> LogMels:
    """The clips' log-mels, from the cache that all experiments share."""
    return LogMels([utterance.path for utterance in utterances], whisper.feature_extractor, experiment.cache)


def training_data(
    experiment: Experiment, whisper: Whisper, taught: Taught | None = None, split: str = "train"
) -> TrainingSet:
    """The clips of a split that the model, or a CTC network on its encoder, can learn from."""
    clips = experiment.of(split)
    mels = log_mels(experiment, whisper, clips)
    if taught:
        return taught.training_set(mels, clips)
    lengths = [mels.lengths(i) for i in range(len(mels))]
    return training_set(whisper, mels, [u.text for u in clips], experiment.settings.language, lengths)


def measure(
    experiment: Experiment, whisper: Whisper, progress: Callable[[float], None], taught: Taught | None = None
) -> tuple[list[Score], dict[str, Any]]:
    """Transcribe the test clips; their scores, and the rates of each group of accents.

    With `--context auto` the full window is tested as well, and its rates stand beside.
    """
    utterances = experiment.of("test")
    settings = experiment.settings
    contexts: list[Context] = ["full"] if settings.context == "full" else ["auto", "full"]
    found: list[Score] = []
    told: dict[str, Any] = {}
    for number, context in enumerate(contexts):

        def done(share: float, number: int = number) -> None:
            progress((number + share) / len(contexts))

        heard = hear(experiment, whisper, utterances, context, done, taught)
        scores = score(utterances, heard, settings.language)
        if not number:
            found = scores
            told["groups"] = group_rates(experiment, scores)
        else:
            told[f"groups_{context}"] = group_rates(experiment, scores)
    return found, told


def hear(
    experiment: Experiment,
    whisper: Whisper,
    utterances: Sequence[Utterance],
    context: Context,
    progress: Callable[[float], None] = lambda share: None,
    taught: Taught | None = None,
) -> dict[str, str]:
    """What the model hears in each clip, by segment id; clips longer than its window are heard in parts."""
    window = int(whisper.feature_extractor.n_samples)
    short = sorted((u for u in utterances if u.n_samples <= window), key=lambda u: (u.n_samples, u.segment_id))
    long = [u for u in utterances if u.n_samples > window]
    language, share = experiment.settings.language, len(short) / max(1, len(utterances))
    mels = log_mels(experiment, whisper, short)

    def in_short(done: float) -> None:
        progress(done * share)

    if taught:
        said = taught.hear(mels, context, in_short)
    else:
        found = transcribe_features(whisper, mels, language, context=context, batch_size=16, progress=in_short)
        said = [one.text for one in found]
    heard = {u.segment_id: text for u, text in zip(short, said, strict=True)}
    for number, utterance in enumerate(long):
        if taught:
            heard[utterance.segment_id] = taught.hear_long(utterance, context)
        else:
            parts = transcribe(whisper, [read_sound(utterance.path)], language, context=context)
            heard[utterance.segment_id] = parts[0].text
        progress(share + (1 - share) * (number + 1) / len(long))
    return heard


def group_rates(experiment: Experiment, scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Error rates of each group, as they go into `runs.metrics`."""
    return [
        {
            "kind": group.kind,
            "name": group.name,
            "accents": group.accents,
            "n_clips": len(group.scores),
            "n_speakers": group.n_speakers,
            "forms": {form: _rates(group.total(form)) for form in scores[0].errors},
        }
        for group in groups(scores, experiment.trained_on, experiment.settings.standard)
    ]


def _rates(errors: Errors) -> dict[str, Any]:
    return asdict(errors) | {"wer": errors.wer, "cer": errors.cer}


def dev_curve(
    experiment: Experiment, whisper: Whisper, dev: Sequence[Utterance], taught: Taught | None
) -> Callable[[int], dict[str, float]]:
    """What joins the learning curve after each epoch: dev loss, dev word error rate, and what a teacher's part says."""
    settings = experiment.settings
    data = training_data(experiment, whisper, taught, "dev")
    some = dev[:: -(-len(dev) // DEV_CLIPS)]

    def evaluate(epoch: int) -> dict[str, float]:
        heard = hear(experiment, whisper, some, settings.context, taught=taught)
        errors = total(s.errors[settings.score] for s in score(some, heard, settings.language))
        loss = mean_loss(whisper, data, settings.context, loss_of=taught.plain if taught else None)
        wer = {"dev_wer": errors.wer} if errors.wer else {}
        return {"dev_loss": loss} | wer | (taught.loss_of.told() if taught else {})

    return evaluate
