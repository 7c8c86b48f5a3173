"""The options of `pdid ingest` that are about downloading."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from catalog.errors import UsageError
from corpus_builder.config import Fetch
from corpus_builder.sources import parse_date

if TYPE_CHECKING:
    from corpus_builder.ingest import Web

Command = TypeVar("Command", bound=Callable[..., Any])

_RATE = re.compile(r"(\d+(?:\.\d+)?)([KMG]?)", re.IGNORECASE)

OPTIONS = (
    click.option("--limit", type=click.IntRange(1), help="Of a playlist, channel or search, the first N that match."),
    click.option("--since", metavar="DATE", help="Of a playlist or channel, what was uploaded on that day or later."),
    click.option("--match", metavar="TEXT", help="Of a playlist or channel, what has this text in its title."),
    click.option("--max-duration", type=click.FloatRange(0, min_open=True), metavar="MINUTES", help="Nothing longer."),
    click.option(
        "--record",
        type=click.FloatRange(0, min_open=True),
        metavar="MINUTES",
        help="Record live streams for so long; an address is recorded once.",
    ),
    click.option(
        "--keep-media",
        type=click.Choice(["always", "failed", "never"]),
        help="Which downloads stay in media/.  [default: always, or pdid.toml's]",
    ),
    click.option("--sleep", type=click.FloatRange(0), metavar="SECONDS", help="Wait between requests to a site."),
    click.option("--rate-limit", metavar="RATE", help="Bytes per second of each download, as 500K or 2M."),
    click.option("--proxy", metavar="URL", help="Download through a proxy: http://… or socks5://…"),
    click.option(
        "--cookies",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="A cookies.txt, for what needs a login.",
    ),
    click.option("--cookies-from-browser", metavar="BROWSER", help="Take the cookies of firefox, chrome, …"),
)


def web_options(command: Command) -> Command:
    """Add the options; the command gets them as keywords, for `web_of`."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def web_of(settings: Fetch, given: dict[str, Any]) -> Web:
    """How to download: the options that were given over the settings. Raises UsageError for a bad rate or date."""
    from corpus_builder.acquire.records import Choice, FetchSettings
    from corpus_builder.ingest import Web

    rate = given["rate_limit"] or settings.rate_limit
    most, record = given["max_duration"], given["record"]
    if given["cookies"] and given["cookies_from_browser"]:
        raise UsageError("--cookies and --cookies-from-browser: give one of them")
    return Web(
        FetchSettings(
            sleep_s=settings.sleep_s if given["sleep"] is None else given["sleep"],
            rate_limit=_bytes(rate) if rate else None,
            proxy=given["proxy"] or settings.proxy,
            cookies=given["cookies"],
            cookies_from_browser=given["cookies_from_browser"],
            timeout_s=settings.timeout_s,
            retries=settings.retries,
            record_s=None if record is None else record * 60,
            min_free_bytes=round(settings.min_free_gb * 1e9),
        ),
        Choice(
            limit=given["limit"],
            since=_day(given["since"]) if given["since"] else None,
            match=given["match"],
            max_duration_s=None if most is None else most * 60,
        ),
        given["keep_media"] or settings.keep_media,
        settings.downloads,
    )


def _bytes(rate: str) -> int:
    found = _RATE.fullmatch(rate.strip())
    if not found or float(found[1]) == 0:
        raise UsageError(f"{rate!r} is no rate: write bytes per second as 500K or 2M")
    return round(float(found[1]) * float(1024 ** " KMG".index(found[2].upper() or " ")))


def _day(text: str) -> date:
    return parse_date(text).date()
