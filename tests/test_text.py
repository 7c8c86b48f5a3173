"""Texts that mean the same compare as equal, and texts that don't stay apart."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import UsageError
from catalog.text import Zwnj, english, is_persian, normaliser, persian, plain

PERSIAN_CASES = {
    "Arabic kaf": ("كتاب", "کتاب"),
    "Arabic yeh": ("ايراني", "ایرانی"),
    "alef maksura": ("مصطفى", "مصطفی"),
    "vowel marks leave no space": ("کِتابِ مَن", "کتاب من"),
    "tanwin": ("مثلاً", "مثلا"),
    "shadda": ("بچّه", "بچه"),
    "superscript alef": ("رحمٰن", "رحمن"),
    "combining hamza": ("خانه\u0654 ما", "خانه ما"),
    "the last of the marks": ("ا\u065fب", "اب"),
    "tatweel": ("ســـلام", "سلام"),
    "tatweel by itself": ("ـ", ""),
    "Persian digits": ("۱۲۳۴۵۶۷۸۹۰", "1234567890"),
    "Arabic-Indic digits": ("٠١٢٣٤٥٦٧٨٩", "0123456789"),
    "digits of all kinds are one form": ("۴٤4", "444"),
    "Persian punctuation": ("سلام، خوبی؟ بله؛", "سلام خوبی بله"),
    "Latin punctuation": ("سلام, (خوبی)... بله!", "سلام خوبی بله"),
    "guillemets": ("«سلام»", "سلام"),
    "punctuation is a space": ("تهران-اصفهان/یزد", "تهران اصفهان یزد"),
    "percent, decimal and thousands signs": ("۵٪ ۱٫۵ ۱٬۰۰۰", "5 1 5 1 000"),
    "symbols": ("♪ سلام ♪ + ۲$", "سلام 2"),
    "alef with madda stays": ("آب", "آب"),
    "alef and madda apart are one letter": ("ا\u0653ب", "آب"),
    "alef with madda and a vowel": ("آ\u064eب", "آب"),
    "hamza letters stay": ("مسئول سؤال رأی جزء", "مسئول سؤال رأی جزء"),
    "yeh with hamza, composed first": ("مسي\u0654ول", "مسئول"),
    "heh with yeh stays": ("خانۀ ما", "خانۀ ما"),
    "teh marbuta stays": ("دایرة المعارف", "دایرة المعارف"),
    "spaces": (" سلام \t\n خوبی\u00a0؟ ", "سلام خوبی"),
    "marks of direction": ("\u200fسلام\u200e \u202bخوبی\u202c \u2067بله\u2069", "سلام خوبی بله"),
    "byte-order mark and soft hyphen": ("\ufeffسلا\u00adم", "سلام"),
    "zero-width joiner": ("ه\u200d", "ه"),
    "Latin words": ("شرکت IBM", "شرکت IBM"),
    "nothing": ("", ""),
    "only punctuation": ("…؟!", ""),
}


@pytest.mark.parametrize(("text", "expected"), PERSIAN_CASES.values(), ids=PERSIAN_CASES)
@pytest.mark.parametrize("zwnj", ["space", "nothing"])
def test_persian(text: str, expected: str, zwnj: Zwnj) -> None:
    assert persian(text, zwnj) == unicodedata.normalize("NFC", expected)


@pytest.mark.parametrize(
    ("text", "space", "nothing"),
    [
        ("می\u200cروم", "می روم", "میروم"),
        ("كتاب\u200cهاي", "کتاب های", "کتابهای"),
        ("خانه\u200c\u200cها", "خانه ها", "خانهها"),
        ("می\u200c روم", "می روم", "می روم"),
        ("کُتُب\u200c", "کتب", "کتب"),
        ("رفته\u200cام،آمدم", "رفته ام آمدم", "رفتهام آمدم"),
    ],
)
def test_persian_zero_width_non_joiner(text: str, space: str, nothing: str) -> None:
    assert persian(text) == space
    assert persian(text, "nothing") == nothing
    assert normaliser("fa", "nothing")(text) == nothing


LETTERS = st.text(
    st.sampled_from("ابپتكکيیىآأؤئءهةۀ\u0653\u0654\u064b\u0651\u0670ـ۱٤5 ،؟\u200c\u200d\u200fe\u0301A")
    | st.characters(codec="utf-8")
)


@given(LETTERS)
def test_persian_is_settled_after_one_pass(text: str) -> None:
    for zwnj in ("space", "nothing"):
        once = persian(text, zwnj)  # type: ignore[arg-type]
        assert persian(once, zwnj) == once  # type: ignore[arg-type]
        assert once == " ".join(once.split())
        assert not set(once) & set("كيىـ\u064b\u0651\u0670\u200c\u200d\u200f۱٤،؟")


@given(LETTERS)
def test_the_two_ways_with_the_non_joiner_differ_in_spaces_only(text: str) -> None:
    assert persian(text).replace(" ", "") == persian(text, "nothing").replace(" ", "")


def test_whispers_basic_normaliser_would_not_do() -> None:
    """What the module's first lines say of it, so that nobody puts it in."""
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer

    basic = BasicTextNormalizer()  # type: ignore[no-untyped-call]
    assert basic("کِتاب") == "ک تاب"
    assert BasicTextNormalizer(remove_diacritics=True)("آب") == "اب"  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The COLOUR of Mr. Smith's aeroplane", "the color of mister smith is airplane"),
        ("It can't be $20 million", "it can not be $20000000"),
        ("two hundred and one", "201"),
        ("um, well, [laughter] okay (aside)", "well okay"),
        ("programme — theatre, organised", "program theater organized"),
        ("", ""),
    ],
)
def test_english_is_whispers(text: str, expected: str, no_network: None) -> None:
    assert english(text) == expected
    assert normaliser("en")(text) == expected


def test_english_joins_strings_of_digits() -> None:
    """Why strings of spoken digits are compared as plain text."""
    assert english("one two three") == "123"
    assert plain("One, two, THREE") == "one two three"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Straße, ÄRGER!", "strasse ärger"),
        ("E\u0301te\u0301 d'Hiver", "été d hiver"),
        ("हिंदी में", "हिंदी में"),  # vowel signs are combining marks
        ("ประเทศไทย?", "ประเทศไทย"),
        ("¿Qué tal? – Bien.", "qué tal bien"),
        ("کِتاب", "کِتاب"),  # Arabic script of another language: marks are kept
    ],
)
def test_plain(text: str, expected: str) -> None:
    assert plain(text) == unicodedata.normalize("NFC", expected)
    assert normaliser("xx")(text) == plain(text)


@given(st.text())
def test_plain_is_settled_after_one_pass(text: str) -> None:
    assert plain(plain(text)) == plain(text)


@pytest.mark.parametrize("language", ["fa", "FA-IR", "fas", "per", "Persian", "farsi", "prs", "fa_IR"])
def test_names_of_persian(language: str) -> None:
    assert is_persian(language)
    assert normaliser(language)("كِ") == "ک"


@pytest.mark.parametrize("language", [None, "", "ar", "fr", "fallback", "english-like"])
def test_other_languages_are_plain(language: str | None) -> None:
    assert not is_persian(language)
    assert normaliser(language) is (english if language == "english-like" else plain)


def test_a_third_way_with_the_non_joiner_is_refused() -> None:
    with pytest.raises(UsageError, match="'space' or 'nothing', not 'dash'"):
        normaliser("fa", "dash")  # type: ignore[arg-type]
