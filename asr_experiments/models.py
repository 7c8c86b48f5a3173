"""The Whisper that a benchmark begins with: a published one, a folder, or a mini of our own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from asr_experiments.datasets import Utterance
from asr_experiments.experiment import claim
from catalog.errors import UsageError
from catalog.whisper_files import obtain_whisper, weights_hash

MINI = "mini"

PROBE_UPDATES = 5
"""Of a mini that is only to be timed."""


def obtain(
    model: str,
    utterances: Sequence[Utterance],
    standard: str | None,
    language: str | None,
    corpus: Path,
    say: Callable[[str], None],
    scratch: Path | None = None,
) -> tuple[str, str]:
    """What to load the model by, and its version: the name with the first 8 hex digits of its weights' SHA-256.

    `mini` is trained on the training clips of the standard accent the first time, and kept in runs/models; with a
    `scratch` folder one that is not there yet is stood in for by an untrained one, made in that folder. Raises
    UsageError for a mini without a standard accent, a folder that is no Whisper, or a language it does not know;
    PdidError where the model is missing and can't be downloaded.
    """
    if model == MINI:
        model = str(_obtain_mini(utterances, standard, language, corpus, say, scratch))
    found = obtain_whisper(model)
    if found.origin == "given path":  # an experiment is the same from wherever it is started
        model = str(found.folder.absolute())
    return model, f"{found.name} {weights_hash(found.folder)[:8]}"


def _obtain_mini(
    utterances: Sequence[Utterance],
    standard: str | None,
    language: str | None,
    corpus: Path,
    say: Callable[[str], None],
    scratch: Path | None,
) -> Path:
    from asr_experiments.mini import fitting_settings, mini_folder, obtain_mini, train_mini

    chosen, code = mini_material(utterances, standard, language)
    folder, settings = corpus / "runs" / "models", fitting_settings(chosen)
    if scratch is not None and not mini_folder(chosen, code, folder, settings)[0].is_dir():
        few = train_mini(chosen, code, scratch, replace(settings, updates=PROBE_UPDATES))
        minutes = few.seconds / PROBE_UPDATES * settings.updates / 60
        say(
            f"the mini Whisper is not trained yet: that will take {minutes:.0f} minutes or more, for its "
            f"{settings.updates} updates; an untrained one stands in for it here, and says more than a trained one"
        )
        return few.folder
    with claim(folder, wait=True):  # of several processes one trains it
        return obtain_mini(chosen, code, folder, say)


def mini_material(
    utterances: Sequence[Utterance], standard: str | None, language: str | None
) -> tuple[list[Utterance], str]:
    """The clips a mini is trained on, and their language. Raises UsageError where they are not known."""
    train = [u for u in utterances if u.split == "train"]
    if standard is None:
        raise UsageError(
            "--model mini is trained on the standard accent: name it with --standard "
            f"(the training clips have {', '.join(sorted({u.accent for u in train}))}), or give another --model"
        )
    chosen = [u for u in train if u.accent == standard]
    if not chosen:
        raise UsageError(f"--standard: no training clip has the accent {standard!r}, and a mini is trained on those")
    if language is None:
        raise UsageError("--model mini: say the language of the speech with --language, such as fa or en")
    return chosen, language


def obtain_extractor(model: str, utterances: Sequence[Utterance], standard: str | None) -> Any:
    """The WhisperFeatureExtractor of a model, without its weights; of `mini`, the one it would have for these clips.

    Raises as `obtain_whisper` does.
    """
    from transformers import WhisperFeatureExtractor

    if model == MINI:
        from asr_experiments.mini import fitting_window

        train = [u for u in utterances if u.split == "train"]
        own = [u for u in train if u.accent == standard]
        return WhisperFeatureExtractor(chunk_length=fitting_window(own or train))  # type: ignore[no-untyped-call]
    return WhisperFeatureExtractor.from_pretrained(obtain_whisper(model).folder, local_files_only=True)
