"""The model hub: the only place that downloads. An unreachable hub costs seconds, never minutes.

Nothing here is called before a model was looked for on disk (`corpus_builder.models`).
"""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from catalog.errors import PdidError

REACH_S = 4.0
"""Seconds an unanswering hub may cost."""


def is_reachable(address: str, timeout_s: float = REACH_S) -> bool:
    """Whether anything answers at an http(s) address within `timeout_s` seconds; an error page counts as an answer.

    In a thread of its own, because looking a name up can hang far longer than any socket timeout.
    """
    answered = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=timeout_s).close()
        except urllib.error.HTTPError:
            pass
        except (OSError, ValueError):
            return
        answered.set()

    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    asker.join(timeout_s + 0.5)
    return answered.is_set()


def has_token() -> bool:
    """Whether a Hugging Face token is set (environment or token file). Touches no network."""
    from huggingface_hub import get_token

    return bool(get_token())


def cached(repo: str, file: str) -> Path | None:
    """The file of a hub repository in the Hugging Face cache, or None. Touches no network."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(repo, file)
    except HFValidationError:
        return None
    return Path(path) if isinstance(path, str) else None


def download(repo: str, patterns: Sequence[str], folder: Path | None = None) -> Path:
    """Bring the matching files of a hub repository into `folder`, or into the Hugging Face cache; return where.

    Raises PdidError that says why it can't be had: offline, gated, no such repository, or what the hub answered.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    _check_wanted()
    if not is_reachable(constants.ENDPOINT):
        raise PdidError("the model hub can't be reached from this machine")
    try:
        return Path(snapshot_download(repo, allow_patterns=list(patterns), local_dir=folder, max_workers=2))
    except GatedRepoError:
        token = "the token that is set has no access" if has_token() else "no token is set"
        raise PdidError(
            f"{repo} is gated and {token}: accept its conditions on the hub's page of {repo}, "
            "create a read token there and set HF_TOKEN"
        ) from None
    except RepositoryNotFoundError:
        hint = "" if has_token() else " (a private one needs HF_TOKEN)"
        raise PdidError(f"the hub knows no repository {repo}{hint}") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PdidError(f"the download of {repo} failed: {reason}") from None


def _check_wanted() -> None:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise PdidError("HF_HUB_OFFLINE is set, so nothing is downloaded")


def download_demucs_files(model: str, folder: Path) -> Path:
    """Bring a published Demucs bag of models from Demucs' own server, checked against the hash in each file's name.

    Raises PdidError where the server can't be reached, does not know the model, or sends something else.
    """
    import torch
    import yaml
    from demucs.pretrained import REMOTE_ROOT, ROOT_URL, _parse_remote_files

    _check_wanted()
    bag = REMOTE_ROOT / f"{model}.yaml"
    if not bag.is_file():
        raise PdidError(f"Demucs publishes no model called {model!r}")
    if not is_reachable(ROOT_URL):
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
