"""Where a Whisper model lies: a folder, `$PDID_MODELS`, the Hugging Face cache, or the hub. Loads nothing heavy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from catalog import hub
from catalog.errors import PdidError, UsageError
from catalog.hub import Found, given_folder, missing, own_folder

DEFAULT_WHISPER = "whisper-small"

SIZES = ("tiny", "base", "small", "medium", "large", "large-v2", "large-v3", "large-v3-turbo")
ENGLISH_SIZES = ("tiny.en", "base.en", "small.en", "medium.en")
"""The sizes OpenAI has published, and those of them for English only."""

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Where transformers keeps a model's weights, best first; an index names the files they are spread over."""


def whisper_repo(model: str) -> str:
    """The hub repository a model's name stands for: `small` and `whisper-small` are `openai/whisper-small`."""
    if "/" in model:
        return model
    return f"openai/{f'whisper-{model}' if model in SIZES + ENGLISH_SIZES else model}"


def whisper_name(model: str) -> str:
    """The name of a model's folder under `$PDID_MODELS`: `whisper-small` for OpenAI's, else the hub's OWNER/NAME."""
    return whisper_repo(model).removeprefix("openai/")


def is_whisper_name(name: str) -> bool:
    """Whether a name is one of Whisper's sizes, a `whisper-…`, or a hub repository."""
    return name in SIZES + ENGLISH_SIZES or name.startswith("whisper-") or name.count("/") == 1


def find_whisper(model: str = DEFAULT_WHISPER) -> Found | None:
    """A Whisper on this disk, or None. Touches no network.

    `model` is a folder, a size (`small`), a name under `$PDID_MODELS` (`whisper-digits`) or a hub repository, whose
    cached copy is looked for. Raises UsageError for a path that is no folder or holds no complete Whisper, and
    PdidError for such a folder under `$PDID_MODELS`.
    """
    if folder := given_folder(model):
        if reason := what_is_wrong(folder):
            raise UsageError(f"{folder} is no Whisper model: {reason}")
        return Found(folder.resolve().name, folder, "given path", (folder / "config.json", *weight_files(folder)))
    name = whisper_name(model)
    if (own := own_folder(name)) and own.is_dir():
        if reason := what_is_wrong(own):
            raise PdidError(f"{own} is no Whisper model: {reason}; mend or remove that folder")
        return Found(name, own, "$PDID_MODELS", (own / "config.json", *weight_files(own)))
    config = hub.cached(whisper_repo(model), "config.json")
    if config is None or what_is_wrong(config.parent):
        return None  # a download that broke off is gone on with
    return Found(name, config.parent, "Hugging Face cache", (config, *weight_files(config.parent)))


def obtain_whisper(model: str = DEFAULT_WHISPER) -> Found:
    """A Whisper from disk, else from the hub into the Hugging Face cache.

    Raises UsageError and PdidError as `find_whisper` does, and PdidError that says what is missing, why, and what
    mends it where the hub does not have it or can't be reached.
    """
    if found := find_whisper(model):
        return found
    otherwise = "or name another model: a folder, or a name under $PDID_MODELS"
    try:
        place = download_whisper(model, None)
    except PdidError as error:
        raise missing("the Whisper model", model, str(error), model, otherwise) from None
    if reason := what_is_wrong(place):
        raise PdidError(f"{whisper_repo(model)} on the hub is no Whisper model: {reason}")
    found = find_whisper(model)
    if found is None:
        raise PdidError(f"the download of {model} is incomplete; run `pdid models fetch {model}` again")
    return found


def download_whisper(model: str, folder: Path | None) -> Path:
    """Bring a Whisper from the hub into `folder`, or into the Hugging Face cache; return where.

    Of its weights only the best of WEIGHTS is brought. Raises PdidError as `catalog.hub.download` does.
    """
    return download_model(whisper_repo(model), folder)


def download_model(repo: str, folder: Path | None) -> Path:
    """The same for any hub repository in transformers' layout."""
    place = hub.download(repo, ["*.json", "*.txt", "model.safetensors"], folder)
    if (place / "model.safetensors").is_file():
        return place
    if index := next(
        (place / name for name in WEIGHTS if name.endswith("index.json") and (place / name).is_file()), None
    ):
        return hub.download(repo, sorted(set(json.loads(index.read_text())["weight_map"].values())), folder)
    return hub.download(repo, ["pytorch_model.bin"], folder)


def what_is_wrong(folder: Path) -> str | None:
    """Why a folder is no complete Whisper, in words for a user; None where it is one."""
    if reason := wrong_weights(folder, lambda config: config.get("model_type") == "whisper", "'whisper'"):
        return reason
    if not (folder / "tokenizer.json").is_file() and not (
        (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    ):
        return "it has no tokenizer (tokenizer.json, or vocab.json and merges.txt)"
    if not (folder / "preprocessor_config.json").is_file() and not (folder / "processor_config.json").is_file():
        return "it has no feature extractor (preprocessor_config.json or processor_config.json)"
    return None


def wrong_weights(folder: Path, fits: Callable[[dict[str, Any]], bool], expected: str) -> str | None:
    """Why a folder holds no model of an expected type with all its weights, in words for a user; None where it does.

    `fits` is asked about what config.json says.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        kind = config.get("model_type")
    except OSError:
        return "it has no config.json"
    except (ValueError, AttributeError):
        return "its config.json is no JSON object"
    if not fits(config):
        return f"its config.json describes a model of type {kind!r}, expected {expected}"
    try:
        files = weight_files(folder)
    except (ValueError, KeyError, AttributeError, TypeError):
        return "the index of its weights is damaged"
    if not files:
        return "it has no weights (model.safetensors)"
    if lost := [file.name for file in files if not file.is_file()]:
        return f"it lacks {lost[0]}, one of its {len(files)} files of weights"
    return None


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files a model's weights lie in, of which some may be missing; empty where there are none."""
    for name in WEIGHTS:
        file = folder / name
        if file.is_file():
            if not name.endswith("index.json"):
                return (file,)
            return tuple(folder / part for part in sorted(set(json.loads(file.read_text())["weight_map"].values())))
    return ()


def weights_hash(folder: Path) -> str:
    """SHA-256 in hex of a folder's weights: of the one file as `sha256sum` prints it, or of several in order."""
    digest = hashlib.sha256()
    for path in weight_files(folder):
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
