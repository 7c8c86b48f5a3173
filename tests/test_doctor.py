"""`pdid doctor` tells what is there and what is not, and how to mend it."""

from __future__ import annotations

import json
from datetime import date, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner

from corpus_builder import doctor
from corpus_builder.cli import pdid
from corpus_builder.models import ModelInfo


def run(*arguments: str) -> tuple[int, list[dict[str, str]], str]:
    done = CliRunner().invoke(pdid, ["doctor", "--json", *arguments])
    return done.exit_code, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_this_machine_is_fit(tmp_path: Path) -> None:
    code, checks, _ = run("--corpus", str(tmp_path))
    assert code == 0
    by_name = {check["name"]: check for check in checks}
    assert by_name["duckdb"]["found"] == version("duckdb")
    assert by_name["Resemblyzer"]["state"] == "ok"
    assert by_name["decoder"]["found"].startswith("ffmpeg ")
    assert by_name["catalog"]["state"] == "note"
    assert {"Python", "ffmpeg", "free space", "GPU", "downloader", "JavaScript", "diarization", "htdemucs"} <= set(
        by_name
    )
    assert all(check["mend"] for check in checks if check["state"] == "missing")


def test_something_essential_missing_is_exit_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "requires", lambda _: ["click", "no-such-package", "numpy<1"])
    code, checks, said = run("--corpus", str(tmp_path))
    assert code == 1
    missing = {check["name"]: check for check in checks if check["state"] == "missing"}
    assert set(missing) == {"no-such-package", "numpy"}
    assert missing["numpy"]["found"] == f"{version('numpy')}, but <1 is needed"
    assert "pip install" in missing["numpy"]["mend"]
    assert "2 essential things missing" in said


def test_requirements_of_other_pythons_and_extras_are_no_concern() -> None:
    lines = ["no-such-package; python_version < '3'", "neither; extra == 'dev'"]
    assert [check.name for check in doctor.packages(lines)] == ["espeakng-loader"]


def test_no_ffmpeg_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding needs none; the previews do, and the answer says so."""
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")

    def none() -> str:
        raise RuntimeError("no ffmpeg")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", none)
    monkeypatch.setenv("PATH", "")
    decoder, program = doctor.ffmpeg()
    assert decoder.state == "ok"
    assert program.state == "note"
    assert program.mend is not None
    assert "imageio-ffmpeg" in program.mend


def test_models_in_wheels_are_essential_and_others_are_fetched() -> None:
    wheel = ModelInfo("Resemblyzer", "voices", "Apache-2.0", "wheel", None, None, False)
    assert doctor.model_check(wheel).state == "missing"
    assert "--no-deps Resemblyzer" in str(doctor.model_check(wheel).mend)
    gated = ModelInfo("diarization", "speakers", "CC-BY-4.0", "hub someone/something", None, None, True, gated=True)
    check = doctor.model_check(gated)
    assert (check.state, check.mend) == ("note", "pdid models fetch diarization")
    assert "HF_TOKEN" in check.found


def test_disk_looks_at_the_folder_that_will_hold_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(tmp_path) in doctor.disk(tmp_path / "not" / "yet" / "made").found
    monkeypatch.setattr(doctor, "FULL_GB", 1e9)
    assert doctor.disk(tmp_path).state == "missing"


def test_a_file_that_is_no_catalog(tmp_path: Path) -> None:
    (tmp_path / "catalog.duckdb").write_text("not a database")
    check = doctor.catalog_version(tmp_path)
    assert check.state == "missing"
    assert "catalog.duckdb" in check.found


def test_the_downloaders_age() -> None:
    made = date(*map(int, version("yt-dlp").split(".")[:3]))
    fresh = doctor.downloader(made + timedelta(days=90))
    assert (fresh.state, fresh.mend) == ("ok", None)
    assert fresh.found == f"yt-dlp {version('yt-dlp')}, 90 days old"
    old = doctor.downloader(made + timedelta(days=91))
    assert (old.state, old.mend) == ("note", "pip install -U yt-dlp yt-dlp-ejs")


def _program(folder: Path, name: str, says: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho '{says}'\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("name", "says", "state", "found"),
    [
        ("deno", "deno 2.5.1 (stable, release, x86_64)", "ok", "deno 2.5.1 ("),
        ("node", "v22.1.0", "ok", "node 22.1.0 ("),
        ("node", "v18.20.4", "note", "too old for yt-dlp: node 18.20.4; only YouTube"),
        ("bun", "1.2.11", "ok", "bun 1.2.11 ("),
        ("qjs", "QuickJS version 2024-01-13", "ok", "quickjs 2024-01-13 ("),
    ],
)
def test_a_javascript_runtime_that_yt_dlp_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str, state: str, found: str
) -> None:
    _program(tmp_path / "bin", name, says)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("sysconfig.get_path", lambda *_: str(tmp_path / "scripts"))  # where `pip install deno` puts it
    check = doctor.javascript()
    assert check.state == state
    assert check.found.startswith(found)
    if state == "ok":
        assert check.found.endswith(f"({tmp_path / 'bin' / name})")


def test_the_deno_of_the_wheel_is_found_without_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path / "scripts", "deno", "deno 2.5.1 (stable)")
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setattr("sysconfig.get_path", lambda *_: str(tmp_path / "scripts"))
    assert doctor.javascript().found == f"deno 2.5.1 ({tmp_path / 'scripts' / 'deno'})"


def test_no_javascript_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_path", lambda *_: str(tmp_path))
    check = doctor.javascript()
    assert check.state == "note"
    assert check.found == "none found; only YouTube addresses need one"
    assert "pip install deno" in str(check.mend)


def test_a_token_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnop")
    _, checks, said = run("--corpus", str(tmp_path))
    assert "hf_abcdefghijklmnop" not in json.dumps(checks) + said
