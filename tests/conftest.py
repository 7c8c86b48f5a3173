"""Material for the tests: real clips and programmes, models, and small files made of them.

`PDID_TEST_DATA` points at the speech, music and programmes; `PDID_MODELS` at a folder with `diarization/`
and `demucs/` in their published formats (`make test` sets both where the material is at hand). What is
not there is skipped, and the summary at the end says so.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from catalog.records import RATE
from corpus_builder.audio import Decoder, Samples, write_clip
from tests.media import EMBEDDED, Pdid, make_pdid, start_pdid
from tests.web_server import WebServer, make_site

MakeWav = Callable[..., Path]

# Started in the background of a script, this process ignores Ctrl-C, and would hand that on to the programs it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _away_from_the_users_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the working folder's `pdid.toml` and `corpus`, nor `$PDID_CORPUS`."""
    monkeypatch.delenv("PDID_CORPUS", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with `clips/` and `programmes/`."""
    folder = Path(os.environ.get("PDID_TEST_DATA") or "not set").absolute()
    if not (folder / "clips").is_dir():
        pytest.skip(f"no test data: PDID_TEST_DATA is {os.environ.get('PDID_TEST_DATA', 'not set')}")
    return folder


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The folder with `diarization/` and `demucs/`."""
    folder = Path(os.environ.get("PDID_MODELS") or "not set").absolute()
    for name in ("diarization/config.yaml", "demucs/htdemucs.yaml"):
        if not (folder / name).is_file():
            pytest.skip(f"no models: PDID_MODELS is {os.environ.get('PDID_MODELS', 'not set')}, without {name}")
    return folder


@pytest.fixture(scope="session")
def programmes(test_data: Path) -> list[Path]:
    """The broadcast-like programmes; the truth of each lies beside it as NAME.truth.json."""
    found = [path for path in sorted((test_data / "programmes").iterdir()) if path.suffix != ".json"]
    assert found, f"{test_data / 'programmes'} is empty"
    return found


@pytest.fixture(scope="session")
def clip(test_data: Path) -> Callable[[str], Samples]:
    """Read a clip, named relative to `clips/`: mono float32 of shape (n,) at 16 kHz."""

    def read(name: str) -> Samples:
        return np.concatenate([block[:, 0] for block in Decoder(test_data / "clips" / name, RATE)])

    return read


@pytest.fixture(scope="session")
def make_wav(clip: Callable[[str], Samples], tmp_path_factory: pytest.TempPathFactory) -> MakeWav:
    """Write a 16 kHz WAV of clips, one after the other with half a second of quiet between, and return its path.

    `make_wav(name, *clips, seconds=None)` cuts or pads to `seconds` where given; without clips it is silence.
    """
    folder = tmp_path_factory.mktemp("media")

    def make(name: str, *clips: str, seconds: float | None = None) -> Path:
        pause = np.zeros(RATE // 2, np.float32)
        parts = [part for one in clips for part in (clip(one), pause)]
        sound = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        if seconds is not None:
            n = round(seconds * RATE)
            sound = np.pad(sound[:n], (0, max(0, n - len(sound))))
        path = folder / name
        write_clip(path, sound)
        return path

    return make


@pytest.fixture(scope="session")
def two_speakers(make_wav: MakeWav, test_data: Path) -> Path:
    """A WAV of about forty seconds in which two people of the VCTK corpus take turns."""
    files = sorted((test_data / "clips" / "vctk").glob("*.*"))
    by_speaker: dict[str, list[str]] = {}
    for file in files:
        if file.suffix != ".tsv":
            by_speaker.setdefault(file.name.split("_")[0], []).append(f"vctk/{file.name}")
    first, second = sorted(clips for clips in by_speaker.values() if len(clips) >= 5)[:2]
    return make_wav("two.wav", *(name for pair in zip(first[:3], second[:3], strict=True) for name in pair))


@pytest.fixture(scope="session")
def site(make_wav: MakeWav, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with twelve seconds of a reader in the shapes that sites serve: see `make_site`. Never change it."""
    wav = make_wav("site.wav", "librispeech/1688-142285-0000.flac", seconds=12)
    return make_site(tmp_path_factory.mktemp("site"), wav)


@pytest.fixture
def web(site: Path) -> Iterator[WebServer]:
    """A server of `site`, on this machine."""
    with WebServer(site) as server:
        yield server


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hub look-ups fail at once, and no token of the machine's own plays a part."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def pdid(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], no_network: None) -> Pdid:
    """Run the command line in this process: `pdid("status", "--corpus", path)` gives its exit status and words."""
    return make_pdid(monkeypatch, capsys)


@pytest.fixture(scope="session")
def talk(make_wav: MakeWav, test_data: Path) -> Path:
    """A WAV of a reader's fifteen seconds: one clip when it is ingested."""
    return make_wav("talk.wav", "librispeech/1688-142285-0000.flac")


@pytest.fixture(scope="session")
def ingested(talk: Path, two_speakers: Path, test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of `talk`, `two_speakers` and the telephone conversation. Never change it: take `corpus`."""
    folder = tmp_path_factory.mktemp("ingested") / "corpus"
    media = [talk, two_speakers, test_data / "clips" / "conversation" / "sample.wav"]
    process = start_pdid("ingest", *media, "--corpus", folder, *EMBEDDED)
    _, err = process.communicate()
    assert process.returncode == 0, err
    return folder


@pytest.fixture
def corpus(ingested: Path, tmp_path: Path) -> Path:
    """A copy of the ingested corpus to do with as one likes."""
    return Path(shutil.copytree(ingested, tmp_path / "corpus"))


@pytest.fixture(scope="session")
def whisper_digits(test_data: Path) -> Path:
    """The folder of the small Whisper that knows English digits."""
    folder = Path(os.environ.get("PDID_MODELS") or "not set").absolute() / "whisper-digits"
    if not (folder / "config.json").is_file():
        pytest.skip(f"no whisper-digits: PDID_MODELS is {os.environ.get('PDID_MODELS', 'not set')}")
    return folder


@pytest.fixture(scope="session")
def digits(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of six recordings in which one speaker each, two US ones and a Belgian, reads strings of digits.

    Beside it lie `media/`, `sources.csv` and `transcripts.csv` (source, start_s, end_s, text). Never change it.
    """
    tool = test_data.parent / "tools" / "make_digits.py"
    if not tool.is_file():
        pytest.skip(f"no recordings of digits: there is no {tool}")
    folder = tmp_path_factory.mktemp("digits")
    subprocess.run([sys.executable, tool, folder, "6"], check=True, stdout=subprocess.DEVNULL)
    process = start_pdid("ingest", "--sources", folder / "sources.csv", "--corpus", folder / "corpus", *EMBEDDED)
    _, err = process.communicate()
    assert process.returncode == 0, err
    return folder / "corpus"


@pytest.fixture(scope="session")
def told(ingested: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ingested corpus with all that a report can show, and its report. Never change it: take a copy."""
    from tests.report_corpus import tell_everything

    corpus = Path(shutil.copytree(ingested, tmp_path_factory.mktemp("told") / "corpus"))
    tell_everything(corpus)
    return corpus
