"""Cookies for the sites: of a cookies.txt or a browser, read once for all downloads and never written."""

from __future__ import annotations

import re
from http.cookiejar import Cookie
from pathlib import Path
from threading import Lock
from typing import Any

from catalog.errors import UsageError
from corpus_builder.acquire.records import FetchSettings

# As in yt-dlp's --cookies-from-browser: BROWSER[+KEYRING][:PROFILE][::CONTAINER]
_BROWSER = re.compile(r"([^+:]+)(?:\s*\+\s*([^:]+))?(?:\s*:\s*(?!:)(.+?))?(?:\s*::\s*(.+))?")

_loaded: dict[tuple[Path | None, str | None], tuple[Cookie, ...]] = {}
_lock = Lock()  # a browser may ask for its keyring's password: once


def load(settings: FetchSettings, client: Any) -> tuple[Cookie, ...]:
    """The cookies that the settings name; `client` is the YoutubeDL that logs. Raises UsageError if there are none."""
    from yt_dlp.cookies import CookieLoadError, load_cookies

    key = (settings.cookies, settings.cookies_from_browser)
    with _lock:
        if key not in _loaded:
            browser = None
            try:
                if settings.cookies:
                    settings.cookies.open("rb").close()  # yt-dlp takes no notice of a file that isn't there
                if settings.cookies_from_browser:
                    parts = _BROWSER.fullmatch(settings.cookies_from_browser.strip())
                    name, keyring, profile, container = parts.groups() if parts else ("", None, None, None)
                    browser = (name.lower(), profile, keyring and keyring.upper(), container)
                file = str(settings.cookies) if settings.cookies else None
                _loaded[key] = tuple(load_cookies(file, browser, client))
            except OSError as error:
                raise UsageError(f"the cookies in {str(settings.cookies)!r} can't be read: {error.strerror}") from None
            except CookieLoadError as error:
                whose = (
                    f"of the browser {settings.cookies_from_browser!r}" if browser else f"in {str(settings.cookies)!r}"
                )
                reason = str(error.__context__).splitlines()[0].strip()
                raise UsageError(f"the cookies {whose} can't be read: {reason}") from None
        return _loaded[key]


def known_values(settings: FetchSettings) -> set[str]:
    """The values of the cookies that were loaded: what must never be shown."""
    cookies = _loaded.get((settings.cookies, settings.cookies_from_browser), ())
    return {cookie.value for cookie in cookies if cookie.value and len(cookie.value) > 5}
