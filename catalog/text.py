"""Text made comparable: what two spellings of the same words differ in is taken away.

Only for comparing (scores, agreement between transcripts, search): a stored transcript stays verbatim. Whisper's
BasicTextNormalizer is not used for any language: it turns vowel marks into spaces and folds آ to ا.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from functools import cache, partial
from importlib.resources import files
from typing import Literal

from catalog.errors import UsageError

Normaliser = Callable[[str], str]
Zwnj = Literal["space", "nothing"]
"""What a zero-width non-joiner (U+200C, as in می‌روم) becomes; writers differ, so scores are given for both."""

ZWNJ = "\u200c"
_PERSIAN = frozenset({"fa", "fas", "per", "prs", "persian", "farsi", "dari"})
_ENGLISH = frozenset({"en", "eng", "english"})

_MARKS = [*range(0x064B, 0x0660), 0x0670, 0x0640]  # vowel marks, superscript alef, tatweel
_LETTERS = {"ك": "ک", "ي": "ی", "ى": "ی"}
_DIGITS = {base + digit: str(digit) for base in (0x0660, 0x06F0) for digit in range(10)}
_PERSIAN_TABLE: dict[int, str | None] = {
    **dict.fromkeys(_MARKS),
    **{ord(letter): to for letter, to in _LETTERS.items()},
    **_DIGITS,
    0x200D: None,  # the zero-width joiner only shapes a letter that stands alone
}


def normaliser(language: str | None, zwnj: Zwnj = "space") -> Normaliser:
    """The function that makes texts of a language comparable: `persian`, `english`, or `plain` for all others.

    `language` is a code or an English name, in any case, with or without a region: fa, fas, en-GB, Persian.
    `zwnj` matters for Persian only. Raises UsageError for any other `zwnj`.
    """
    if zwnj not in ("space", "nothing"):
        raise UsageError(f"a zero-width non-joiner can become 'space' or 'nothing', not {zwnj!r}")
    if is_persian(language):
        return partial(persian, zwnj=zwnj)
    return english if _name(language) in _ENGLISH else plain


def is_persian(language: str | None) -> bool:
    """Whether a language's name or code means Persian (Iranian or Dari)."""
    return _name(language) in _PERSIAN


def persian(text: str, zwnj: Zwnj = "space") -> str:
    """Persian text in one spelling.

    NFC; Arabic ك to ک, ي and ى to ی; vowel marks (U+064B–U+065F, U+0670) and tatweel (U+0640) dropped without
    leaving a space; Persian and Arabic-Indic digits to 0–9; punctuation and symbols to a space; the zero-width
    non-joiner to a space or to nothing; invisible marks of direction dropped. آ stays apart from ا, and so do
    ء أ ؤ ئ ۀ ة as NFC leaves them. Single spaces, none at the ends; a second pass changes nothing.
    """
    text = unicodedata.normalize("NFC", text).replace(ZWNJ, " " if zwnj == "space" else "")
    text = text.translate(_PERSIAN_TABLE)
    # again: a letter and an accent that stood either side of something dropped are neighbours now
    return _spaced(unicodedata.normalize("NFC", _words_only(text)))


def english(text: str) -> str:
    """English text by Whisper's EnglishTextNormalizer, with its table of British and American spellings.

    Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (arXiv 2212.04356), appendix C.
    It writes numbers as digits and joins those that follow one another: "one two" becomes "12", one word. For
    strings of spoken digits use `plain`, else a wrong digit makes the whole string one error.
    """
    return _spaced(_english()(text))


def plain(text: str) -> str:
    """Text of any other language: NFC, letter case folded, punctuation and symbols to a space; marks are kept,
    since in many scripts they are vowels or tones."""
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return _spaced(unicodedata.normalize("NFC", _words_only(text)))


def _name(language: str | None) -> str:
    return (language or "").strip().lower().replace("_", "-").split("-")[0]


def _words_only(text: str) -> str:
    return "".join(map(_word_character, text))


@cache
def _word_character(character: str) -> str:
    """The character; a space for punctuation and symbols; nothing for what is invisible and joins nothing."""
    category = unicodedata.category(character)
    if category[0] in "PS":
        return " "
    return "" if category == "Cf" and character not in (ZWNJ, "\u200d") else character


def _spaced(text: str) -> str:
    return " ".join(text.split())


@cache
def _english() -> Normaliser:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    spellings = json.loads(files("catalog").joinpath("english_spelling.json").read_text("utf-8"))
    whispers: Normaliser = EnglishTextNormalizer(spellings)  # type: ignore[no-untyped-call]
    return whispers
