"""Exports that can't be: each ends with a clear sentence, nothing half-written, and the corpus as it was."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from catalog.errors import PdidError
from corpus_builder.export import FORMATS, job
from tests.furnished import furnish
from tests.media import PDID, Pdid, query, start_pdid


@pytest.fixture(scope="module")
def furnished(ingested: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    corpus = Path(shutil.copytree(ingested, tmp_path_factory.mktemp("faults") / "corpus"))
    furnish(corpus)
    return corpus


@pytest.fixture(autouse=True)
def _the_corpus_is_as_before(request: pytest.FixtureRequest) -> Any:
    """Whatever goes wrong: the same files, and no export noted."""
    if "furnished" not in request.fixturenames:
        yield
        return
    corpus = request.getfixturevalue("furnished")
    before = state(corpus)
    yield
    assert state(corpus) == before


def state(corpus: Path) -> tuple[set[str], list[Any]]:
    files = {str(path.relative_to(corpus)) for path in corpus.rglob("*") if path.name != "catalog.duckdb.wal"}
    return files, query(corpus, "SELECT count(*) FROM exports")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--licence", "CC BY 4"], 2, "did you mean 'CC BY 4.0'?"),
        (["--licence", "GPL"], 2, "there are CC BY 4.0, CC0"),
        (["--licence", " , "], 2, "name at least one"),
        (["--accent", "Yazdy"], 2, "looks like a misspelling of 'Yazdi'"),
        (["--accent", "Tajiki"], 2, "no clip has the accent 'Tajiki': there are Kurdish, Lori, Yazdi"),
        (["--accent", "Yazdi", "--licence", "CC0"], 2, "no recording has the licence 'CC0'"),
        (["--split", "two"], 2, "there is no split 'two'; there are one"),
    ],
)
def test_a_choice_that_nothing_meets(
    options: list[str], code: int, words: str, pdid: Pdid, furnished: Path, tmp_path: Path
) -> None:
    done = pdid("export", "--format", "nemo", tmp_path / "out", "--corpus", furnished, *options)
    assert (done.code, done.out) == (code, "")
    assert words in done.err
    assert not (tmp_path / "out").exists()


def test_accents_go_by_every_spelling(pdid: Pdid, corpus: Path, tmp_path: Path) -> None:
    furnish(corpus)
    done = pdid("export", "--format", "nemo", tmp_path / "out", "--corpus", corpus, "--accent", "یزدی")
    assert done.code == 0, done.err
    assert {path.name for path in (tmp_path / "out").glob("*.json")} == {"train_manifest.json"}


def test_recordings_without_a_licence_are_left_out_and_counted(pdid: Pdid, corpus: Path, tmp_path: Path) -> None:
    furnish(corpus)
    ((bare,),) = query(
        corpus, "SELECT count(*) FROM segments JOIN sources USING (source_id) WHERE kept AND licence IS NULL"
    )
    done = pdid("export", "--format", "nemo", tmp_path / "out", "--corpus", corpus, "--licence", "cc0,CC BY 4.0")
    assert done.code == 0, done.err
    assert f"note: {bare} clips have no licence: left out" in done.err
    done = pdid("export", "--format", "nemo", tmp_path / "all", "--corpus", corpus)
    assert f"note: {bare} of" in done.err


def test_the_folder_must_be_new_or_empty(pdid: Pdid, furnished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("precious")
    done = pdid("export", "--format", "nemo", out, "--corpus", furnished)
    assert done.code == 2
    assert "is not empty" in done.err
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    done = pdid("export", "--format", "nemo", out / "mine.txt", "--corpus", furnished)
    assert done.code == 2
    assert "is a file" in done.err
    assert (out / "mine.txt").read_text() == "precious"


@pytest.mark.parametrize("place", ["clips/out", "runs/out", ".", ".."])
def test_the_folder_may_not_be_the_corpus(place: str, pdid: Pdid, furnished: Path) -> None:
    assert pdid("export", "--format", "nemo", furnished / place, "--corpus", furnished).code == 2


def test_an_empty_corpus_says_so(pdid: Pdid, tmp_path: Path) -> None:
    from catalog.store import open_catalog

    with open_catalog(tmp_path / "c", write=True):
        pass
    done = pdid("export", "--format", "nemo", tmp_path / "out", "--corpus", tmp_path / "c")
    assert done.code == 1
    assert "no kept clips" in done.err
    done = pdid("export", "--format", "nemo", tmp_path / "out", "--corpus", tmp_path / "none")
    assert done.code == 2


def test_a_clip_that_is_gone_is_named(pdid: Pdid, corpus: Path, tmp_path: Path) -> None:
    furnish(corpus)
    victim = sorted((corpus / "clips").rglob("*.wav"))[-1]
    victim.unlink()
    for name in ("nemo", "parquet", "webdataset", "metadata"):
        done = pdid("export", "--format", name, tmp_path / "out", "--corpus", corpus)
        assert done.code == 1
        assert str(victim.relative_to(corpus)) in done.err
        assert {path.name for path in tmp_path.iterdir()} == {"corpus"}
    assert query(corpus, "SELECT count(*) FROM exports") == [(0,)]


@pytest.mark.parametrize("name", ["audiofolder", "parquet", "webdataset", "metadata"])
def test_a_file_that_may_not_grow(name: str, furnished: Path, tmp_path: Path) -> None:
    """The system's own refusal (EFBIG, as a quota gives EDQUOT), met in the middle of a file."""
    limit = 4_000 if name == "metadata" else 100_000
    process = start_pdid(
        "export", "--format", name, tmp_path / "out", "--corpus", furnished,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    _, err = process.communicate()
    assert process.returncode == 1, err
    assert "can't be written (" in err
    assert "nothing of it is left" in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills(furnished: Path, tmp_path: Path) -> None:
    """A real disk of 300 kB, mounted in a namespace of its own where this machine lets us."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [*PDID, "export", "--format", "webdataset", str(disk / "out"), "--corpus", str(furnished)]
    script = 'mount -t tmpfs -o size=300k tmpfs "$1" || exit 77; shift; "$@"; code=$?; ls -A "$0"; exit $code'
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script, str(disk), str(disk), *command],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 1, done.stderr
    assert os.strerror(errno.ENOSPC) in done.stderr
    assert "make room or name a folder elsewhere" in done.stderr
    assert done.stdout == "", "something is left on the disk"


def test_an_export_that_can_not_be_noted_is_taken_back(
    pdid: Pdid, furnished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PdidError("the catalog can't be written")

    monkeypatch.setattr(job, "write_export", refuse)
    done = pdid("export", "--format", "nemo", tmp_path / "out", "--corpus", furnished)
    assert (done.code, list(tmp_path.iterdir())) == (1, [])


def test_ctrl_c_leaves_nothing(pdid: Pdid, furnished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = []

    def copy(self: job.Job, clip: Any, target: Path) -> None:
        copied.append(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"half a cl")
        if len(copied) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(job.Job, "copy", copy)
    (tmp_path / "out").mkdir()
    done = pdid("export", "--format", "nemo", tmp_path / "out", "--corpus", furnished)
    assert done.code == 130
    assert [path.name for path in tmp_path.rglob("*")] == ["out"]


def test_two_exports_to_one_place_do_not_mix(pdid: Pdid, furnished: Path, tmp_path: Path) -> None:
    with job.beside(tmp_path / "out") as part:
        (part / "mine").write_text("")
        done = pdid("export", "--format", "nemo", tmp_path / "out", "--corpus", furnished)
        assert done.code == 1
        assert "another export" in done.err
        assert (part / "mine").exists()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_export_left_is_cleared(pdid: Pdid, corpus: Path, tmp_path: Path) -> None:
    furnish(corpus)
    left = tmp_path / ".out.part" / "clips"
    left.mkdir(parents=True)
    (left / "half.wav").write_bytes(b"RIFF")
    assert pdid("export", "--format", "nemo", tmp_path / "out", "--corpus", corpus).code == 0
    assert not list(tmp_path.rglob("half.wav"))
    assert not (tmp_path / ".out.part").exists()


@pytest.mark.parametrize(("name", "module"), [("parquet", "pyarrow"), ("lhotse", "lhotse")])
def test_a_missing_library_is_named_with_its_extra(
    name: str, module: str, pdid: Pdid, furnished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    done = pdid("export", "--format", name, tmp_path / "out", "--corpus", furnished)
    assert done.code == 1
    assert f"pip install 'pdid[{name}]'" in done.err
    assert list(tmp_path.iterdir()) == []


def test_every_format_is_in_the_help_and_the_page(pdid: Pdid, repository: Path) -> None:
    said = pdid("export", "--help").out
    page = (repository / "docs" / "exports.md").read_text("utf-8")
    for name in FORMATS:
        assert f"  {name}" in said
        assert f"| `{name}` |" in page
