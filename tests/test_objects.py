"""Object storage: fsspec's own storage in memory, called s3, through `look`, `fetch` and a whole run."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from corpus_builder.acquire import objects
from corpus_builder.acquire.records import Choice, FetchError, FetchSettings
from corpus_builder.acquire.web import fetch, look
from tests.media import EMBEDDED, Pdid, assert_whole, query, rows

SETTINGS = FetchSettings(min_free_bytes=0)


class Bucket(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Storage in memory, with faults."""

    protocol = "s3"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    faults: Iterator[Exception | None] = iter(())  # what becomes of each request: an error, or None for its answer

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("s3://").strip("/")

    def info(self, path: str, **options: Any) -> Any:
        fail_as_asked()
        return super().info(path, **options)

    def find(self, path: str, **options: Any) -> Any:
        fail_as_asked()
        return super().find(path, **options)

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        opened = super()._open(path, mode, **options)
        return Object(opened.getvalue()) if mode == "rb" else opened


class Object(io.BytesIO):
    """An object that is read by one request for each block."""

    def read(self, size: int | None = -1) -> bytes:
        fail_as_asked()
        return super().read(size)


def fail_as_asked() -> None:
    fault = next(Bucket.faults, None)
    if fault:
        raise fault


def slow_down() -> OSError:
    """What s3fs makes of 503."""
    return OSError(errno.EBUSY, "Please reduce your request rate., HTTP Status code: 503")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """Takes the place of s3fs."""
    monkeypatch.setattr(Bucket, "store", {})
    monkeypatch.setattr(Bucket, "pseudo_dirs", [""])
    monkeypatch.setattr(Bucket, "faults", iter(()))
    before = _registry.get("s3")
    fsspec.register_implementation("s3", Bucket, clobber=True)
    Bucket.clear_instance_cache()
    yield Bucket()
    _registry.pop("s3")
    if before:
        _registry["s3"] = before


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds waited between tries, without waiting for them."""
    waited: list[float] = []
    monkeypatch.setattr(objects, "sleep", waited.append)
    return waited


def uris(address: str, **choice: Any) -> list[str]:
    return [entry.uri for entry in look(address, Choice(**choice), SETTINGS)]


def test_an_object_and_a_folder_of_them(bucket: Bucket) -> None:
    bucket.pipe({"s3://tapes/a/two.WAV": b"22", "s3://tapes/a/b/one.mp3": b"1", "s3://tapes/a/notes.txt": b"no"})
    (one,) = look("s3://tapes/a/b/one.mp3", Choice(), SETTINGS)
    assert (one.uri, one.site, one.size_bytes, one.listed) == ("s3://tapes/a/b/one.mp3", "s3", 1, False)
    assert uris("s3://tapes/a/") == ["s3://tapes/a/b/one.mp3", "s3://tapes/a/two.WAV"]
    assert uris("s3://tapes/", match="TWO") == ["s3://tapes/a/two.WAV"]
    assert uris("s3://tapes/", limit=1) == ["s3://tapes/a/b/one.mp3"]
    assert uris("s3://me:secret@tapes/a/b/one.mp3") == ["s3://tapes/a/b/one.mp3"]


@pytest.mark.parametrize(
    ("address", "choice", "why"),
    [
        ("s3://tapes/a", {}, "it is a folder: write it with a / at the end"),
        ("s3://tapes/a/gone.mp3", {}, "there is nothing there"),
        ("s3://tapes/empty/", {}, "there is no media under it"),
        ("s3://tapes/a/", {"max_duration_s": 60.0}, "leave out --since and --max-duration"),
    ],
)
def test_what_can_not_be_meant(bucket: Bucket, address: str, choice: dict[str, Any], why: str) -> None:
    bucket.pipe({"s3://tapes/a/one.mp3": b"1", "s3://tapes/empty/notes.txt": b"no"})
    with pytest.raises(FetchError) as failed:
        look(address, Choice(**choice), SETTINGS)
    assert why in str(failed.value)
    assert address in str(failed.value)


def test_a_copy_goes_on_where_it_broke_off(
    bucket: Bucket, waits: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "BLOCK", 1000)
    content = bytes(range(256)) * 20
    bucket.pipe({"s3://tapes/a.wav": content})
    (entry,) = look("s3://tapes/a.wav", Choice(), SETTINGS)
    heard: list[tuple[int, int | None]] = []

    def tell(*so_far: Any) -> None:
        heard.append(so_far)

    # a look at it, two blocks, a third that breaks off, and then nothing any more
    monkeypatch.setattr(Bucket, "faults", chain([None] * 3, repeat(ConnectionResetError("the line is cut"))))
    with pytest.raises(FetchError, match=r"the storage failed \(the line is cut\), 6 times: run again later"):
        fetch(entry, tmp_path, SETTINGS, tell)
    assert heard == [(1000, 5120), (2000, 5120)]
    assert waits == [1, 2, 4, 8, 16]
    assert not list(tmp_path.glob("*.wav"))
    monkeypatch.setattr(Bucket, "faults", iter(()))
    fetched = fetch(entry, tmp_path, SETTINGS, tell)
    assert heard[2:] == [(3000, 5120), (4000, 5120), (5000, 5120), (5120, 5120)]
    assert fetched.path.read_bytes() == content
    assert fetched.fetch.size_bytes == len(content)
    assert fetched.fetch.site == "s3"
    assert fetched.fetch.tool.startswith("fsspec ")
    assert [path.name for path in tmp_path.rglob("*.wav")] == [fetched.path.name]


def test_a_storage_in_trouble_is_asked_again(
    bucket: Bucket, waits: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as more bytes come between its failures, however many there are."""
    monkeypatch.setattr(objects, "BLOCK", 1000)
    content = bytes(range(250)) * 32
    bucket.pipe({"s3://tapes/in/a.wav": content})
    monkeypatch.setattr(Bucket, "faults", iter([slow_down(), slow_down()]))
    (entry,) = look("s3://tapes/in/", Choice(), SETTINGS)
    assert waits == [1, 2]
    waits.clear()
    each = chain.from_iterable([None, None, slow_down(), slow_down()] for _ in range(8))
    monkeypatch.setattr(Bucket, "faults", each)
    fetched = fetch(entry, tmp_path, SETTINGS, lambda so_far, of: None)
    assert fetched.path.read_bytes() == content
    assert waits == [1, 2] * 8  # in turn a look and a block that come, and two answers that do not


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (
            OSError(errno.EINVAL, "The specified bucket is not valid."),
            "the storage failed (The specified bucket is not",
        ),
        (OSError("Forbidden: https://storage\nno access"), "the storage refuses it (Forbidden: https://storage no"),
        (PermissionError("Access Denied"), "the storage refuses it (Access Denied): give this machine credentials"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full (No space left on device): make room"),
        (type("NoCredentialsError", (Exception,), {})("Unable to locate credentials"), "give this machine credentials"),
    ],
)
def test_what_will_not_pass_is_not_waited_for(
    bucket: Bucket, waits: list[float], monkeypatch: pytest.MonkeyPatch, error: Exception, why: str
) -> None:
    bucket.pipe({"s3://tapes/a.wav": b"1"})
    monkeypatch.setattr(Bucket, "faults", repeat(error))
    with pytest.raises(FetchError) as failed:
        look("s3://tapes/a.wav", Choice(), SETTINGS)
    assert why in failed.value.why
    assert waits == []


def test_a_missing_package_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(FetchError, match="needs the package s3fs: pip install s3fs"):
        look("s3://tapes/a.wav", Choice(), SETTINGS)


def test_a_run_takes_objects_like_downloads(
    bucket: Bucket, talk: Path, ingested: Path, tmp_path: Path, pdid: Pdid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of the file itself but for its address; a storage that refuses fails its source, and loses nothing."""
    bucket.pipe({"s3://tapes/in/talk.wav": talk.read_bytes(), "s3://tapes/in/broken.wav": b"no sound"})
    corpus = tmp_path / "corpus"
    dry = pdid("ingest", "s3://tapes/in/", "--corpus", corpus, "--dry-run", *EMBEDDED)
    assert {line.split()[1] for line in dry.out.splitlines()} == {"s3://tapes/in/talk.wav", "s3://tapes/in/broken.wav"}
    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "faults", repeat(PermissionError("Forbidden")))
        refused = pdid("ingest", "s3://tapes/in/talk.wav", "--corpus", corpus, *EMBEDDED)
    assert refused.code == 1
    assert "the storage refuses it (Forbidden): give this machine credentials, as s3fs reads them" in refused.err
    said = pdid("ingest", "s3://tapes/in/", "--corpus", corpus, *EMBEDDED)
    assert said.code == 1
    assert query(corpus, "SELECT uri, status FROM sources ORDER BY uri") == [
        ("s3://tapes/in/broken.wav", "failed"),
        ("s3://tapes/in/talk.wav", "done"),
    ]
    source_id = query(corpus, "SELECT source_id FROM sources WHERE status = 'done'")[0][0]
    assert rows(corpus)[source_id]["segments"] == rows(ingested)[source_id]["segments"]
    assert_whole(corpus)
    again = pdid("ingest", "s3://tapes/in/talk.wav", "--corpus", corpus, *EMBEDDED)
    assert "nothing to do: all 1 sources are up to date" in again.err


def test_503_for_good_is_in_the_catalog_and_a_rerun_completes(
    bucket: Bucket, waits: list[float], talk: Path, ingested: Path, tmp_path: Path, pdid: Pdid,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    bucket.pipe({"s3://tapes/in/talk.wav": talk.read_bytes()})
    corpus = tmp_path / "corpus"
    with monkeypatch.context() as patch:  # it can be listed and asked for its size, but not read
        patch.setattr(Object, "read", raiser(slow_down()))
        said = pdid("ingest", "s3://tapes/in/", talk, "--corpus", corpus, *EMBEDDED)
    assert said.code == 1
    assert waits == [1, 2, 4, 8, 16]
    why = "the storage failed (Please reduce your request rate., HTTP Status code: 503), 6 times: run again later"
    assert query(corpus, "SELECT uri, error FROM sources WHERE status = 'failed'") == [("s3://tapes/in/talk.wav", why)]
    (done,) = query(corpus, "SELECT source_id FROM sources WHERE status = 'done'")  # of the file, which is no object
    before = rows(corpus)[done[0]]
    monkeypatch.setattr(Bucket, "faults", iter([slow_down(), slow_down()]))
    again = pdid("ingest", "s3://tapes/in/", talk, "--corpus", corpus, *EMBEDDED)
    assert again.code == 0, again.err
    assert query(corpus, "SELECT source_id, status FROM sources") == [(done[0], "done")]  # the same bytes, once
    assert rows(corpus)[done[0]]["segments"] == before["segments"] == rows(ingested)[done[0]]["segments"]
    assert {address["uri"] for address in rows(corpus)[done[0]]["addresses"]} == {str(talk), "s3://tapes/in/talk.wav"}
    assert_whole(corpus)


def raiser(error: Exception) -> Callable[..., bytes]:
    def fail(*_: Any) -> bytes:
        raise error

    return fail
