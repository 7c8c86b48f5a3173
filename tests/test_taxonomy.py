"""Accent names: every spelling finds its accent, slips are caught, other labels pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import UsageError
from corpus_builder.taxonomy import edit_distance, load_taxonomy

PERSIAN = load_taxonomy("persian")
TEN = ["Isfahani", "Yazdi", "Shomali", "Jonubi", "Lori", "Kurdish", "Mashhadi", "Tajiki", "Shirazi", "Balochi"]


ONE_WORD = (
    "Scottish American Irish German Greek Welsh English Indian US Canadian Turkish Somali Saudi Urdu Dari Lari ترکی"
)


def test_the_ten_accents_and_the_standard_one() -> None:
    assert [accent.name for accent in PERSIAN.accents if not accent.standard] == TEN
    assert PERSIAN.test_only == ("Tajiki", "Shirazi", "Balochi")
    assert PERSIAN.standard == "Tehrani"


@pytest.mark.parametrize(
    ("label", "name"),
    [
        *[(name, name) for name in TEN],
        ("  yazdi ", "Yazdi"),
        ("LORI", "Lori"),
        ("Esfahani", "Isfahani"),
        ("Northern", "Shomali"),
        ("Southern", "Jonubi"),
        ("Luri", "Lori"),
        ("Tehrani", "Tehrani"),
        ("اصفهانی", "Isfahani"),
        ("اصفهاني", "Isfahani"),  # Arabic ye
        ("كردی", "Kurdish"),  # Arabic kaf
        ("کُردی", "Kurdish"),  # with a vowel mark
        ("فارسی‌معیار", "Tehrani"),  # with a half-space
        ("فارسی  معیار", "Tehrani"),
        ("بلوچی", "Balochi"),
    ],
)
def test_every_spelling_finds_its_accent(label: str, name: str) -> None:
    assert PERSIAN.canonical(label) == name
    assert PERSIAN.known(label)


@pytest.mark.parametrize("label", ["Northern England", "Southern England", "Northern Irish", *ONE_WORD.split()])
def test_other_labels_are_kept_as_they_are(label: str) -> None:
    assert PERSIAN.canonical(f" {label} ") == label
    assert not PERSIAN.known(label)


@pytest.mark.parametrize(
    ("label", "suggestion"),
    [
        ("Yazdy", "Yazdi"),
        ("Yzadi", "Yazdi"),
        ("Kudrish", "Kurdish"),
        ("Shirazy", "Shirazi"),
        ("Isfahanni", "Isfahani"),
        ("Isfhany", "Isfahani"),
        ("Kurdsh", "Kurdish"),
        ("Lorri", "Lori"),
        ("Baloochy", "Baloochi"),
        ("Tajikki", "Tajiki"),
        ("Northen", "Northern"),
        ("اصفحانی", "اصفهانی"),
        ("مشحدی", "مشهدی"),
    ],
)
def test_a_slip_is_an_error_that_suggests_the_name(label: str, suggestion: str) -> None:
    with pytest.raises(UsageError, match=f"{label!r} looks like a misspelling of {suggestion!r}"):
        PERSIAN.canonical(label)


@pytest.mark.parametrize("label", ["", "  ", "\u200c"])
def test_an_empty_label_is_an_error(label: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        PERSIAN.canonical(label)


def test_a_taxonomy_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "isles.toml").write_text(
        'name = "isles"\nother = ["Irisch"]\n[[accent]]\nname = "Irish"\naliases = ["Éire"]\n'
        '[[accent]]\nname = "RP"\nstandard = true\n',
        "utf-8",
    )
    isles = load_taxonomy("isles.toml", tmp_path)
    assert isles.canonical("éire") == "Irish"  # composed or not
    assert isles.canonical("Irisch") == "Irisch"
    assert isles.canonical("R") == "R"
    assert isles.canonical("Isfahany") == "Isfahany"
    assert (isles.standard, isles.test_only) == ("RP", ())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name = ", "not valid TOML"),
        ('name = "x"\n[[accent]]\nalias = ["y"]', "accent.0.name"),
        ('name = "x"\n[[accent]]\nname = "A b"\n[[accent]]\nname = "C"\naliases = ["ab"]', "'ab' names both A b and C"),
    ],
)
def test_a_wrong_taxonomy_file_is_told(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "mine.toml").write_text(content, "utf-8")
    with pytest.raises(UsageError, match=message):
        load_taxonomy("mine.toml", tmp_path)


def test_an_unknown_taxonomy_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no taxonomy 'french'"):
        load_taxonomy("french", tmp_path)


@pytest.mark.parametrize(
    ("a", "b", "distance"), [("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("یزد", "یزدی", 1)]
)
def test_edit_distances_that_are_known(a: str, b: str, distance: int) -> None:
    assert edit_distance(a, b) == distance


@given(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8))
def test_edit_distance_is_a_metric(a: str, b: str, c: str) -> None:
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, b) == edit_distance(b, a)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
