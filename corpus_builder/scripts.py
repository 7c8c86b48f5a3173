"""Which script a text is written in, and which one a language is."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import cache

# By ISO 639 code. A language that is not here is not checked: Azerbaijani, Kazakh, Kurdish, Serbian, Turkmen and
# Uzbek are written in several scripts, Japanese in three at once.
_SCRIPTS = {
    "ARABIC": "ar arz azb bal bqi ckb fa fas glk lrc mzn per prs ps pus sd ug ur urd",
    "LATIN": "af ca cs cy da de en eng es et eu fi fr ga gl hr hu id is it lt lv ms mt nl no pl pt ro sk sl sq sv sw "
    "tr vi",
    "CYRILLIC": "be bg ky mk mn ru tg tgk uk",
    "GREEK": "el",
    "HEBREW": "he yi",
    "ARMENIAN": "hy",
    "GEORGIAN": "ka",
    "DEVANAGARI": "hi mr ne",
    "BENGALI": "bn as",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAI": "th",
    "HANGUL": "ko",
}
_OF_LANGUAGE = {code: script for script, codes in _SCRIPTS.items() for code in codes.split()}
_NAMES = {
    "persian": "fa",
    "farsi": "fa",
    "dari": "prs",
    "tajik": "tg",
    "english": "en",
    "arabic": "ar",
    "russian": "ru",
}


def language_code(language: str) -> str:
    """The code of a language: `fa` for fa, FA, fa-IR, fa_IR and Persian; others as they are, in lower case."""
    code = language.strip().lower()
    return _NAMES.get(code, code.replace("_", "-").split("-")[0])


def contradicts(text: str, language: str) -> str | None:
    """The script of a text that can't be of a language, by its name; None where it can, or nothing is known.

    That is where more than half of the letters are of one other script: names in Latin letters do no harm.
    """
    expected = _OF_LANGUAGE.get(language_code(language))
    if expected is None:
        return None
    counts = Counter(script for letter in text if (script := _script(letter)))
    if not counts:
        return None
    script, n = counts.most_common(1)[0]
    return script.capitalize() if script != expected and n > counts.total() / 2 else None


@cache
def _script(letter: str) -> str | None:
    """The script of a letter, by the first word of its name in Unicode; None for marks, digits and signs."""
    if not letter.isalpha():
        return None
    return unicodedata.name(letter, "?").partition(" ")[0]
