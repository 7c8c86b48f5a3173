"""Which recording of which site an address means, from the address alone."""

from __future__ import annotations

from catalog.errors import UsageError

LISTS = ("channel", "playlist", "search", "tab", "user")
"""How yt-dlp calls extractors of lists; few of them say in another way that they are."""


def site_of(address: str) -> tuple[str, str] | None:
    """The site (yt-dlp's extractor key in lower case) and its id of the recording; None where the address doesn't say.

    Asks nobody. Addresses of no known site have none. Raises UsageError for the address of a list.
    """
    from yt_dlp import YoutubeDL
    from yt_dlp.extractor import gen_extractor_classes

    with YoutubeDL({"quiet": True, "no_warnings": True}):  # loads the plugins
        for extractor in gen_extractor_classes():
            if extractor.suitable(address):
                site = str(extractor.ie_key()).lower()
                if site.endswith(LISTS) or extractor.is_single_video(address) is False:
                    raise UsageError(f"{address!r} is that of a list: name the addresses of the recordings themselves")
                site_id = extractor.get_temp_id(address) if site != "generic" else None
                return (site, str(site_id)) if site_id else None
    return None
