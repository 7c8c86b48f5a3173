"""The house's plan: data goes one way, one package speaks to the database, and help costs nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.test_install import canonical, declared

PACKAGES = ("catalog", "corpus_builder", "asr_experiments")


def imports(path: Path) -> set[str]:
    """Every module a file imports, at its top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relative to itself"
            found.add(node.module or "")
    return found


def imported(repository: Path, package: str) -> dict[str, list[str]]:
    """Top-level module -> files of `package` that import it."""
    found: dict[str, list[str]] = {}
    for path in sorted((repository / package).rglob("*.py")):
        for name in imports(path):
            found.setdefault(name.split(".")[0], []).append(str(path.relative_to(repository)))
    return found


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("catalog", {"corpus_builder", "asr_experiments"}),
        ("corpus_builder", {"asr_experiments", "duckdb"}),
        ("asr_experiments", {"duckdb"}),
    ],
)
def test_data_goes_one_way(repository: Path, package: str, forbidden: set[str]) -> None:
    assert {name: files for name, files in imported(repository, package).items() if name in forbidden} == {}


def test_only_the_catalog_speaks_to_the_database(repository: Path) -> None:
    assert "duckdb" in imported(repository, "catalog")


def test_stages_do_not_know_the_catalogs_files(repository: Path) -> None:
    stages = ("music", "vad", "separate", "segment", "loudness", "quality")
    for path in (repository / "corpus_builder").glob("*.py"):
        if path.stem in stages:
            assert not {name for name in imports(path) if name.startswith("catalog.store")}, path


def test_every_imported_package_is_declared(repository: Path) -> None:
    """What is used is asked for by name, not met by luck in another package's needs."""
    known = declared(repository)
    owners = packages_distributions()
    for package in PACKAGES:
        for name, files in imported(repository, package).items():
            if name not in sys.stdlib_module_names and name not in PACKAGES:
                here = {canonical(owner) for owner in owners.get(name, [name])}
                assert here & known, f"{name}, imported by {files}, is not in pyproject.toml"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["ingest", "--help"],
        ["demo", "--help"],
        ["benchmark", "sanity", "--help"],
        ["benchmark", "explain", "--help"],
    ],
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from corpus_builder.cli import pdid\n"
        f"assert pdid.main({arguments}, prog_name='pdid', standalone_mode=False) in (None, 0)\n"
        "heavy = {'torch', 'pyannote', 'demucs', 'transformers', 'scipy', 'onnxruntime', 'duckdb', 'av'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "pdid" in done.stdout
