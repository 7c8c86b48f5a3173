"""Where models lie on this disk, and the model hub: the only place that downloads.

An unreachable hub costs seconds, never minutes. It is not asked before a model was looked for on disk: in an explicit
folder, in `$PDID_MODELS`, in the caches (`corpus_builder.models`, `catalog.whisper_files`).
"""

from __future__ import annotations

import hashlib
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from catalog.errors import PdidError, UsageError

REACH_S = 4.0
"""Seconds an unanswering hub may cost."""


@dataclass(frozen=True, slots=True)
class Found:
    """A model on this disk: its name, the folder it lies in, who pointed there, and the files it consists of."""

    name: str
    folder: Path
    origin: str
    files: tuple[Path, ...]

    @property
    def version(self) -> str:
        """Name and the first 8 hex digits of the files' SHA-256: other weights, another version."""
        digest = hashlib.sha256()
        for file in self.files:
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        return f"{self.name} {digest.hexdigest()[:8]}"


def given_folder(model: str, default: str = "") -> Path | None:
    """The folder the settings point at, or None where they name a model instead of a folder.

    Raises UsageError for a path that is no folder.
    """
    folder = Path(model).expanduser()
    if folder.is_dir() and model != default:
        return folder
    if model.startswith(("/", ".", "~")):
        raise UsageError(f"there is no model folder {model!r}: give an existing one, or a name under $PDID_MODELS")
    return None


def own_folder(name: str) -> Path | None:
    """`$PDID_MODELS/name`, or None where the variable is not set."""
    root = os.environ.get("PDID_MODELS")
    return Path(root).expanduser() / name if root else None


def missing(what: str, model: str, reason: str, name: str, otherwise: str) -> PdidError:
    """The error for a model that can't be had: where it was looked for, why it can't come, and what mends it."""
    root = os.environ.get("PDID_MODELS")
    looked = f"$PDID_MODELS ({root})" if root else "$PDID_MODELS (not set)"
    return PdidError(
        f"{what} {model!r} is neither in {looked} nor in the caches on this disk, and {reason}; "
        f"run `pdid models fetch {name}` where the hub can be reached, copy the folder to $PDID_MODELS, {otherwise}"
    )


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

    check_wanted()
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


def check_wanted() -> None:
    """Raise PdidError where the user asked for no downloads."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise PdidError("HF_HUB_OFFLINE is set, so nothing is downloaded")
