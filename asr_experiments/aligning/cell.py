"""The arms `ctc` and `align` in the benchmark: what a cell of theirs trains, on what, and how it hears."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from asr_experiments.aligning.language_model import LanguageModel, load_language_model
from asr_experiments.aligning.loss import AlignLoss, ctc_set, spaced
from asr_experiments.aligning.network import CtcNetwork, transcribe_features, transcribe_sound
from asr_experiments.aligning.small_bert import SmallBertSettings, obtain_small_bert
from asr_experiments.arms import TAUGHT
from asr_experiments.datasets import Utterance, read_sound
from asr_experiments.experiment import Cell, Experiment, claim
from asr_experiments.features import LogMels
from asr_experiments.studies import Report
from asr_experiments.training_set import TrainingSet
from catalog.context import Context
from catalog.errors import PdidError
from catalog.whisper import Whisper


@dataclass(frozen=True, slots=True)
class Taught:
    """A new CTC head on an encoder, and what it is trained with."""

    whisper: Whisper  # whose encoder or log-mels it uses
    network: CtcNetwork
    teacher: LanguageModel
    loss_of: AlignLoss
    plain: AlignLoss  # CTC alone, for the dev loss, which is then the same thing in both arms

    def training_set(self, mels: LogMels, utterances: Sequence[Utterance]) -> TrainingSet:
        """See `loss.ctc_set`."""
        lengths = [mels.lengths(i) for i in range(len(mels))]
        return ctc_set(self.network, self.whisper, self.teacher, mels, [u.text for u in utterances], lengths)

    def hear(self, mels: LogMels, context: Context, progress: Callable[[float], None]) -> list[str]:
        """What is said in clips that fit the window."""
        return transcribe_features(self.network, self.whisper, mels, context=context, progress=progress)

    def hear_long(self, clip: Utterance, context: Context) -> str:
        """What is said in a clip of any length."""
        return transcribe_sound(self.network, self.whisper, read_sound(clip.path), context)


def prepare_taught(
    experiment: Experiment, whisper: Whisper, cell: Cell, report: Report, bert: SmallBertSettings | None = None
) -> Taught | None:
    """The network of a cell, untrained; None for the arms that train the whole Whisper.

    The head's first weights follow from the seed alone, so `ctc` and `align` of a seed begin with the same. Raises
    PdidError as `load_language_model` and `obtain_small_bert` do.
    """
    if cell.arm not in TAUGHT:
        return None
    settings = experiment.settings.align
    teacher = obtain_teacher(experiment, report, str(whisper.device), bert)
    characters = sorted({character for u in experiment.of("train") for character in spaced(u.text)})
    if not characters:
        raise PdidError("no training clip has a transcript, and a CTC head writes the characters it has seen there")
    torch.manual_seed(cell.seed)
    network = CtcNetwork(whisper, settings.encoder, characters)
    loss_of = AlignLoss(network, settings, teacher if cell.arm == "align" else None)
    return Taught(whisper, network, teacher, loss_of, AlignLoss(network, settings))


def obtain_teacher(
    experiment: Experiment, report: Report, device: str, bert: SmallBertSettings | None = None
) -> LanguageModel:
    """The experiment's language model; a small BERT of the training transcripts is kept in runs/models."""
    if experiment.settings.align.language_model is not None:
        return load_language_model(Path(experiment.settings.align.language_model), device)
    cache = experiment.corpus / "runs" / "models"
    with claim(cache, wait=True):  # of several processes one makes it
        texts = [u.text for u in experiment.of("train")]
        folder = obtain_small_bert(
            texts, cache, bert, lambda share: report("pre-training a small BERT on the transcripts", share)
        )
    return load_language_model(folder, device)
