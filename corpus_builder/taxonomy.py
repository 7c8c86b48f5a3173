"""Accent names: one spelling for each accent, whatever spelling or script a label comes in."""

from __future__ import annotations

import tomllib
import unicodedata
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from catalog.errors import UsageError

# Arabic letters that keyboards type for the Persian ones; vowel marks, and what is not seen, go.
_UNSEEN = "\u200c\u200e\u200f\ufeff"
_VOWELS = "".join(map(chr, range(0x064B, 0x0653)))
_LETTERS = str.maketrans({"ي": "ی", "ك": "ک"} | dict.fromkeys(_UNSEEN + _VOWELS))

# How many edits of a label of this many letters still look like a slip: two letters swapped are two. A label
# of three letters is near to everything; real accents near one of ours stand under `other` in its file.
_EDITS = ((4, 2), (0, 0))


class Accent(BaseModel):
    """One accent of a taxonomy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    aliases: tuple[str, ...] = ()
    test_only: bool = False
    standard: bool = False


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    other: tuple[str, ...] = ()
    accent: tuple[Accent, ...]


@dataclass(frozen=True)
class Taxonomy:
    """The known accents. `other` are labels that resemble one but are accents of their own."""

    name: str
    accents: tuple[Accent, ...]
    other: tuple[str, ...] = ()
    _names: dict[str, str] = field(init=False, repr=False, compare=False)
    _other: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names: dict[str, str] = {}
        for accent in self.accents:
            for spelling in (accent.name, *accent.aliases):
                owner = names.setdefault(fold(spelling), accent.name)
                if owner != accent.name:
                    raise UsageError(f"taxonomy {self.name}: {spelling!r} names both {owner} and {accent.name}")
        object.__setattr__(self, "_names", names)
        object.__setattr__(self, "_other", frozenset(map(fold, self.other)))

    @property
    def test_only(self) -> tuple[str, ...]:
        """Accents that belong in test data only."""
        return tuple(accent.name for accent in self.accents if accent.test_only)

    @property
    def standard(self) -> str | None:
        """The standard accent, if the taxonomy marks one."""
        return next((accent.name for accent in self.accents if accent.standard), None)

    def known(self, label: str) -> bool:
        """Whether a label is one of the taxonomy's names or aliases."""
        return fold(label) in self._names

    def canonical(self, label: str) -> str:
        """The name of the accent that a label means; a label outside the taxonomy as it is written.

        Letter case, spaces, half-spaces, vowel marks and Arabic forms of Persian letters don't matter. Raises
        UsageError for an empty label, and for one that looks like a slip of a known name: within two
        edits of it, an edit being a letter more, less or other; shorter ones than four letters must be exact.
        """
        key = fold(label)
        if not key:
            raise UsageError("an accent label is empty: give a name, or leave it out")
        if key in self._names:
            return self._names[key]
        if key in self._other:
            return label.strip()
        near = self._nearest(key)
        if near is not None:
            spelling, name = near
            meaning = "" if fold(spelling) == fold(name) else f" ({name})"
            raise UsageError(
                f"accent {label.strip()!r} looks like a misspelling of {spelling!r}{meaning}: write {spelling!r}, "
                "or, if it is an accent of its own, name it under `other` in a taxonomy file of yours"
            )
        return label.strip()

    def _nearest(self, key: str) -> tuple[str, str] | None:
        """The spelling nearest to a label, if near enough to be a slip, and its accent."""
        slips = []
        for accent in self.accents:
            for spelling in (accent.name, *accent.aliases):
                known = fold(spelling)
                distance = edit_distance(key, known)
                allowed = next(edits for letters, edits in _EDITS if min(len(key), len(known)) >= letters)
                if distance <= allowed:
                    slips.append((distance, spelling, accent.name))
        return min(slips, key=lambda slip: slip[0])[1:] if slips else None


def load_taxonomy(name: str, folder: Path = Path()) -> Taxonomy:
    """The taxonomy that comes with pdid under this name, or a TOML file, relative to `folder` or the working one.

    Raises UsageError if there is none, or if it is not a taxonomy.
    """
    built_in = files("corpus_builder") / f"taxonomy_{name}.toml"
    if "/" not in name and built_in.is_file():
        return _parse(built_in.read_text("utf-8"), name)
    for path in (folder / name, Path(name)):
        if path.is_file():
            try:
                return _parse(path.read_text("utf-8-sig"), str(path))
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(f"the taxonomy {path} can't be read: {error}") from None
    raise UsageError(f"there is no taxonomy {name!r}: write `persian`, or the path of a TOML file")


def _parse(text: str, where: str) -> Taxonomy:
    try:
        found = _File.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the taxonomy {where} is not valid TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UsageError(f"the taxonomy {where}: {key}: {first['msg']}") from None
    return Taxonomy(found.name, found.accent, found.other)


def fold(label: str) -> str:
    """A label without what spellings of one word differ in: case, spaces, vowel marks, Arabic letter forms."""
    return "".join(unicodedata.normalize("NFC", label).translate(_LETTERS).casefold().split())


def edit_distance(a: str, b: str) -> int:
    """Levenshtein's distance: the fewest letters put in, taken out or changed that turn one string into the other.

    V. I. Levenshtein, "Binary codes capable of correcting deletions, insertions and reversals", 1966;
    the row-by-row form of Wagner and Fischer, 1974.
    """
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (x != y)))
    return row[-1]
