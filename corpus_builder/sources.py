"""What to ingest: SOURCE arguments and the sources file become a list of requests."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from catalog.errors import UsageError
from corpus_builder.acquire.addresses import check_address, is_address, without_credentials
from corpus_builder.taxonomy import Taxonomy, edit_distance

MEDIA = frozenset(
    f".{ending}"
    for ending in (
        "3gp", "aac", "ac3", "aif", "aiff", "amr", "asf", "au", "avi", "caf", "flac", "flv", "m2ts", "m4a", "m4b",
        "m4v", "mka", "mkv", "mov", "mp2", "mp3", "mp4", "mpeg", "mpg", "mts", "oga", "ogg", "ogv", "opus", "spx",
        "ts", "vob", "w64", "wav", "webm", "wma", "wmv",
    )
)  # fmt: skip
"""Names that end so are media when a folder is walked; a file that is named itself may end as it likes."""

CATALOG = "catalog.duckdb"
_DIGITS = str.maketrans("۰۱۲۳۴۵۶۷۸۹٠١٢٣٤٥٦٧٨٩", "01234567890123456789")
_LABELS = ("accent", "speaker", "language", "licence", "title", "channel", "uploaded_at")
_SPELLINGS = {"license": "licence"}


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """One file or web address to ingest and what is said of it; None where nothing is said."""

    uri: str  # absolute; what the catalog stores as its address
    path: Path  # of the file; empty for what is not downloaded yet
    accent: str | None = None
    speaker: str | None = None
    language: str | None = None
    licence: str | None = None
    title: str | None = None
    channel: str | None = None
    uploaded_at: datetime | None = None  # UTC
    extra: dict[str, str] = field(default_factory=dict)  # further columns of the sources file, as they are
    accent_raw: str | None = field(default=None, compare=False)  # the accent's label as it was written
    address: str | None = field(default=None, compare=False, repr=False)  # on the web, with its password if it has one

    @property
    def name(self) -> str:
        """What it is called in messages: a file's name, else the address."""
        return self.uri if self.address else self.path.name


def find_sources(
    arguments: Sequence[str], taxonomy: Taxonomy, *, sources_file: Path | None = None, accent: str | None = None
) -> list[SourceRequest]:
    """The requests that SOURCE arguments and a sources file make, each file once, in the order given.

    `accent` is the label of all that have none of their own; what the sources file says of a file that
    is also an argument holds. Raises UsageError for nothing to ingest, an argument that does not exist, an address
    that is not on the web, a folder without media, a misspelt accent, or a fault in the sources file, with its line.
    """
    name = taxonomy.canonical(accent) if accent is not None else None
    if not arguments and sources_file is None:
        raise UsageError(
            "there is nothing to ingest: name media files, folders or web addresses, or a list of them with --sources"
        )
    requests: dict[str, SourceRequest] = {}
    for argument in arguments:
        for request in _expand(argument, Path(), must_exist=True):
            requests[request.uri] = replace(request, accent=name, accent_raw=accent)
    if sources_file is not None:
        for request in read_sources_file(sources_file, taxonomy):
            requests[request.uri] = request if request.accent else replace(request, accent=name, accent_raw=accent)
    return list(requests.values())


def read_sources_file(path: Path, taxonomy: Taxonomy) -> list[SourceRequest]:
    """Read a sources file: CSV with a header, `source` and optional labels; further columns go to `extra`.

    Comma, semicolon and tab all part cells; a byte-order mark, either line ending, empty lines and
    Persian digits in dates are fine. Paths are relative to the file. A file that isn't there is still a
    request: it will fail by itself. Raises UsageError with the line for anything else that can't be meant.
    """
    seen: dict[str, tuple[int, SourceRequest]] = {}
    for line, row in _rows(path):
        where = f"{path}, line {line}"
        try:
            labels = _labels(row, taxonomy)
            found = list(_expand(row["source"], path.parent, must_exist=False))
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None
        for media in found:
            request = replace(labels, uri=media.uri, path=media.path, address=media.address)
            first_line, first = seen.setdefault(request.uri, (line, request))
            if first != request:
                raise UsageError(
                    f"{where}: {media.name} stands in line {first_line} already, with other labels: leave one of them"
                )
    if not seen:
        raise UsageError(f"{path} names no source: write one per line under the header")
    return [request for _, request in seen.values()]


def address_of(path: Path) -> str:
    """The address the catalog stores for a local file: its absolute path, links not followed.

    A name that is no valid text (bytes of another encoding) is written as a file: address.
    """
    absolute = os.path.abspath(path)
    try:
        absolute.encode("utf-8")
    except UnicodeEncodeError:
        return Path(absolute).as_uri()
    return absolute


def _expand(source: str, base: Path, *, must_exist: bool) -> Iterator[SourceRequest]:
    """What a source means: a web address, or itself as a media file, or all in a folder and the folders in it."""
    if is_address(source):
        check_address(source)
        yield SourceRequest(without_credentials(source), Path(), address=source)
        return
    for path in _files(source, base, must_exist=must_exist):
        yield SourceRequest(address_of(path), path)


def _files(source: str, base: Path, *, must_exist: bool) -> Iterator[Path]:
    """The media files that a name means."""
    if "\0" in source:
        raise UsageError(f"{source!r} can't be the name of a file")
    path = base / source
    if os.path.isdir(path):
        media = sorted(_walk(path))
        if not media:
            raise UsageError(f"there is no media in the folder {str(path)!r}: name one with audio or video files in it")
        yield from media
    elif must_exist and not os.path.lexists(path):
        raise UsageError(f"there is no file or folder {str(path)!r}")
    else:
        yield path


def _walk(folder: Path) -> Iterator[Path]:
    """Media files by their ending; hidden ones, and the clips of a corpus, are passed over."""
    unreadable: list[Path] = []
    for here, folders, names in os.walk(folder, onerror=lambda error: unreadable.append(Path(str(error.filename)))):
        ours = ("clips", "runs", "media") if CATALOG in names else ()
        folders[:] = [name for name in folders if not name.startswith(".") and name not in ours]
        for name in names:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in MEDIA:
                yield Path(here) / name
    yield from unreadable  # it fails by itself later, with its reason, and the rest goes on


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and rows of a sources file, cells by column name."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"the sources file {path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start + 1}): save it as CSV in UTF-8") from None
    # strict: else one forgotten quote swallows the rest of the file into a cell
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    header: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = _header(cells, path, reader.line_num)
                continue
            where = f"{path}, line {reader.line_num}"
            if any(cell.strip() for cell in cells[len(header) :]):
                raise UsageError(
                    f"{where}: {len(cells)} cells under {len(header)} columns: put a cell with the separator in quotes"
                )
            row = {name: cell.strip() for name, cell in zip(header, cells, strict=False) if name}
            if not row.get("source"):
                raise UsageError(f"{where}: the column `source` is empty: name a file or a folder")
            yield reader.line_num, row
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from None
    if header is None:
        raise UsageError(f"{path} is empty: it needs a header with the column `source`")


def _delimiter(text: str) -> str:
    """The separator that the header uses most."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    return max(",;\t", key=header.count)


def _header(cells: list[str], path: Path, line: int) -> list[str]:
    names = [cell.strip() for cell in cells]
    names = [_SPELLINGS.get(name.lower(), name.lower()) if _is_ours(name) else name for name in names]
    if "source" not in names:
        near = next((name for name in names if edit_distance(name.lower(), "source") <= 2), None)
        hint = f"did you mean {near!r}?" if near else "it names the file or folder of each row"
        raise UsageError(
            f"{path}, line {line}: the header has no column `source` (it has {', '.join(filter(None, names))}): {hint}"
        )
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice:
        raise UsageError(f"{path}, line {line}: the column {twice!r} is there twice: rename one")
    return names


def _is_ours(name: str) -> bool:
    return name.lower() in ("source", *_LABELS, *_SPELLINGS)


def _labels(row: Mapping[str, str], taxonomy: Taxonomy) -> SourceRequest:
    """A row's labels; uri and path are filled in later."""
    accent, uploaded = row.get("accent"), row.get("uploaded_at")
    return SourceRequest(
        uri="",
        path=Path(),
        accent=taxonomy.canonical(accent) if accent else None,
        accent_raw=accent or None,
        speaker=row.get("speaker") or None,
        language=row.get("language") or None,
        licence=row.get("licence") or None,
        title=row.get("title") or None,
        channel=row.get("channel") or None,
        uploaded_at=parse_date(uploaded) if uploaded else None,
        extra={name: cell for name, cell in row.items() if name != "source" and name not in _LABELS},
    )


def parse_date(text: str) -> datetime:
    """A date, with or without a time, as an aware UTC datetime; without a zone it is taken as UTC.

    Year, month, day with - or /, in Latin, Persian or Arabic digits. Years 1200 to 1599 are of the
    Solar Hijri calendar. Raises UsageError if it is no date.
    """
    plain = text.translate(_DIGITS).strip()
    found = re.fullmatch(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[T ]+(.+))?", plain)
    try:
        if not found:
            raise ValueError
        year, month, day = map(int, found.groups()[:3])
        gregorian = _from_solar_hijri(year, month, day) if 1200 <= year < 1600 else date(year, month, day)
        moment = datetime.fromisoformat(f"{gregorian.isoformat()}T{found[4] or '00:00'}")
    except ValueError:
        raise UsageError(f"{text!r} is no date: write it as 2026-01-31 or ۱۴۰۴/۱۱/۱۱") from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _from_solar_hijri(year: int, month: int, day: int) -> date:
    """The Gregorian date, by the 33-year cycle of eight leap years, exact for the years 1244 to 1472.

    Counted from 1 Farvardin 1403, which was 20 March 2024. Raises ValueError if there is no such day.
    """
    last = 31 if month <= 6 else 30 if month <= 11 or _leap(year) else 29
    if not (1 <= month <= 12 and 1 <= day <= last):
        raise ValueError
    years = sum(365 + _leap(y) for y in range(1403, year)) - sum(365 + _leap(y) for y in range(year, 1403))
    months = 31 * min(month - 1, 6) + 30 * max(month - 7, 0)
    return date(2024, 3, 20) + timedelta(days=years + months + day - 1)


def _leap(year: int) -> bool:
    return (25 * year + 11) % 33 < 8
