"""What the installation promises: complete pins, no addresses, nothing copyleft unasked."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.+!]*")


def canonical(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(repository: Path) -> list[Requirement]:
    """Everything pyproject.toml asks for, extras and build included."""
    data = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))
    project = data["project"]
    groups = [project["dependencies"], data["build-system"]["requires"], *project["optional-dependencies"].values()]
    return [Requirement(line) for group in groups for line in group]


def declared(repository: Path) -> set[str]:
    """Names of everything pyproject.toml asks for, and of Resemblyzer, which is installed apart."""
    return {canonical(requirement.name) for requirement in requirements(repository)} | {"resemblyzer"}


def pins(repository: Path) -> dict[str, str]:
    """Package -> version of constraints.txt."""
    lines = (repository / "constraints.txt").read_text("utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonical(name): version for name, version in pairs}


def test_constraints_are_names_and_versions_only(repository: Path) -> None:
    for line in (repository / "constraints.txt").read_text("utf-8").splitlines():
        assert line.startswith("#") or PIN.fullmatch(line), line


def test_every_declared_dependency_is_pinned_to_a_version_that_fits(repository: Path) -> None:
    pinned = pins(repository)
    for requirement in requirements(repository):
        version = pinned[canonical(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} but {version} is pinned"
    assert pinned["resemblyzer"] == "0.1.4"


def test_what_the_dependencies_need_is_pinned_too(repository: Path) -> None:
    """The closure over the installed packages: nothing is left for pip to choose."""
    pinned, seen = pins(repository), set[str]()
    waiting = [(canonical(requirement.name), requirement.extras) for requirement in requirements(repository)]
    while waiting:
        name, extras = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            needs = requires(name) or []
        except PackageNotFoundError:
            continue  # for another platform or Python
        for need in map(Requirement, needs):
            if not need.marker or any(need.marker.evaluate({"extra": extra}) for extra in {"", *extras}):
                assert canonical(need.name) in pinned, f"{need.name}, which {name} needs, is not pinned"
                waiting.append((canonical(need.name), need.extras))
    assert len(seen) > 100


def test_torch_and_torchaudio_are_of_one_release(repository: Path) -> None:
    pinned = pins(repository)
    assert Version(pinned["torch"]).release[:2] == Version(pinned["torchaudio"]).release[:2]
    assert "torchvision" not in pinned


def test_the_speech_synthesiser_is_an_extra(repository: Path) -> None:
    """It is GPL-3.0; nothing a corpus needs may ask for it."""
    needs = [Requirement(line) for line in requires("pdid") or []]
    (espeak,) = [need for need in needs if need.name == "espeakng-loader"]
    assert str(espeak.marker) == 'extra == "demo"'
    assert "resemblyzer" not in {canonical(need.name) for need in needs}


def test_no_default_dependency_calls_itself_gpl(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    for requirement in map(Requirement, project["dependencies"]):
        if requirement.marker and not requirement.marker.evaluate():
            continue
        about = distribution(requirement.name).metadata
        licence = f"{about.get_all('License-Expression')} {about.get_all('Classifier')}"
        assert not re.search(r"(?<!L)(?<!Lesser )\bA?GPL|Affero", licence), f"{requirement.name}: {licence}"


@pytest.mark.parametrize("target", ["setup", "demo", "test", "check"])
def test_make_knows_its_targets(repository: Path, target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_continuous_integration_runs_both(repository: Path) -> None:
    script = (repository / ".ci" / "run").read_text("utf-8")
    assert "make test" in script
    assert "make check" in script
    assert "set -euo pipefail" in script
