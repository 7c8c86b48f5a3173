"""Wall time of `pdid ingest URL…` against downloading alone and processing alone, one after the other, same files.

    python benchmarks/acquire.py [FILES [SECONDS [DOWNLOADS]]]

FILES recordings of SECONDS each (default: 24 of 120) are cut from the programmes under $PDID_TEST_DATA. They are
first ingested from the disk, then fetched from a local server whose link, shared by all connections, is just so slow
that this takes as long, then ingested from that server, DOWNLOADS (default: 3) at a time. Few files can't overlap
well: the first must come before there is anything to process, and the last is processed when there is nothing left to
fetch. Prints the machine and one table; run it on an otherwise idle machine.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SO_SNDBUF, SOL_SOCKET
from typing import Any

from corpus_builder.ffmpeg import ffmpeg_path

BLOCK = 16 << 10


class Server(ThreadingHTTPServer):
    """Files of a folder over a slow link, with ranges, as sites have them."""

    daemon_threads = True
    rate = float("inf")  # bytes per second, of all connections together

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(Handler, folder))
        self.lock = threading.Lock()
        self.free_at = 0.0
        self.sent = 0

    def wait_for_turn(self, size: int) -> None:
        """Sleep until so many bytes have gone over the link, after those that others wait for."""
        with self.lock:
            self.free_at = max(self.free_at, time.monotonic()) + size / self.rate
            self.sent += size
            until = self.free_at
        time.sleep(max(0.0, until - time.monotonic()))

    def handle_error(self, *_: Any) -> None:
        """A client that goes away, as when it only looks."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server

    def __init__(self, folder: Path, *rest: Any) -> None:
        self.folder = folder
        super().__init__(*rest)

    def do_GET(self) -> None:
        """The whole file or its end."""
        data = (self.folder / Path(self.path).name).read_bytes()
        wanted = self.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted.startswith("bytes=") else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Type", "audio/mpeg")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.connection.setsockopt(SOL_SOCKET, SO_SNDBUF, BLOCK)  # else the system takes a whole file off our hands
        for at in range(start, len(data), BLOCK):
            self.server.wait_for_turn(min(BLOCK, len(data) - at))
            self.wfile.write(data[at : at + BLOCK])

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        """Nothing: the table is all there is to see."""


def recordings(n: int, seconds: int, folder: Path) -> list[Path]:
    """So many files of so many seconds, each another stretch of the programmes."""
    programmes = sorted(p for p in Path(os.environ["PDID_TEST_DATA"], "programmes").iterdir() if p.suffix != ".json")
    once = folder / "once.wav"
    ffmpeg = [str(ffmpeg_path()), "-v", "error", "-y"]
    twice = 2 * programmes  # so that a stretch may begin anywhere in the first round
    inputs = [word for p in twice for word in ("-i", str(p))]
    joined = "".join(f"[{i}:a]" for i in range(len(twice))) + f"concat=n={len(twice)}:v=0:a=1"
    subprocess.run([*ffmpeg, *inputs, "-filter_complex", joined, "-ac", "1", "-ar", "44100", str(once)], check=True)
    length = (once.stat().st_size - 44) / 88200 / 2
    (folder / "media").mkdir()
    files = [folder / "media" / f"{i:03d}.mp3" for i in range(n)]
    for i, file in enumerate(files):
        cut = ["-ss", f"{i * length / n:.1f}", "-t", str(seconds), "-i", str(once)]
        subprocess.run([*ffmpeg, *cut, "-b:a", "128k", str(file)], check=True)
    return files


def ingest(sources: list[str], corpus: Path) -> tuple[float, float]:
    """Wall seconds of `pdid ingest`, and the seconds of media it took in; every source must be done."""
    pdid = str(Path(sys.executable).with_name("pdid"))
    command = [pdid, "ingest", *sources, "--corpus", str(corpus), "--diarizer", "embedded", "--json"]
    start = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    wall = time.perf_counter() - start
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) == len(sources), f"{len(outcomes)} outcomes of {len(sources)} sources"
    return wall, sum(outcome["duration_s"] for outcome in outcomes)


def download(url: str) -> int:
    """Bytes behind an address."""
    with urllib.request.urlopen(url) as response:
        return len(response.read())


def main(n: int = 24, seconds: int = 120, downloads: int = 3) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = recordings(n, seconds, folder)
        size = sum(file.stat().st_size for file in files)
        processing, media = ingest([str(file) for file in files], folder / "local")
        with Server(folder / "media") as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            urls = [f"http://127.0.0.1:{server.server_port}/{file.name}" for file in files]
            server.rate = size / processing
            start = time.perf_counter()
            with ThreadPoolExecutor(downloads) as pool:
                assert sum(pool.map(download, urls)) == size
            downloading = time.perf_counter() - start
            server.sent = 0
            (folder / "web").mkdir()
            (folder / "web" / "pdid.toml").write_text(f"[fetch]\ndownloads = {downloads}\n")
            both, same = ingest(urls, folder / "web")
            assert abs(same - media) < 0.01 * media, f"{same} s of media from the web, {media} s from the disk"
            server.shutdown()
    longer = max(downloading, processing)
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {os.cpu_count()} processors; {n} files, {media:.0f} s of media, {downloads} downloads at a time")
    print(f"link of {size / processing / 1e3:.0f} kB/s; sent {server.sent / size:.2f} times the files' size\n")
    print("| run | wall s | of the longer |\n|---|---|---|")
    rows = ("downloading alone", downloading), ("processing alone", processing), ("`pdid ingest URL…`", both)
    for what, wall in rows:
        print(f"| {what} | {wall:.1f} | {wall / longer:.2f} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
