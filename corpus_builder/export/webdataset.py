"""WebDataset: tar shards in which CLIP.wav, CLIP.json and CLIP.txt lie side by side."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from corpus_builder.export.card import write_card
from corpus_builder.export.clips import record
from corpus_builder.export.croissant import FileSet, write_croissant
from corpus_builder.export.job import Job, dump, write_lines
from corpus_builder.export.parquet import SHARD_BYTES, into_shards


def write(job: Job, out: Path) -> None:
    """Write SIDE/000000.tar and so on, SIDE/clips.jsonl (all that is known, and the shard), README.md, croissant.json.

    Each clip is CLIP.wav, CLIP.json (all that is known) and, where it has a text, CLIP.txt. Clips come in the
    order of their ids, which are hashes: readers shuffle within a shard, and a shard in the order of time would
    be a few recordings. The same clips make the same bytes.
    """
    for side, clips in job.sides():
        (out / side).mkdir()
        shards = list(into_shards(sorted(clips, key=lambda clip: clip.segment_id), SHARD_BYTES))
        lines = []
        for number, shard in enumerate(shards):
            lines += [dump({"shard": f"{number:06d}.tar"} | record(clip)) for clip in shard]
            with tarfile.open(out / side / f"{number:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
                for clip in job.watch(shard, f"{side} {number + 1}/{len(shards)}"):
                    _add(tar, f"{clip.segment_id}.wav", job.read(clip))
                    _add(tar, f"{clip.segment_id}.json", dump(record(clip)).encode("utf-8", "backslashreplace"))
                    if clip.text is not None:
                        _add(tar, f"{clip.segment_id}.txt", clip.text.encode("utf-8", "backslashreplace"))
        write_lines(out / side / "clips.jsonl", lines)
    write_card(job, out, {side: f"{side}/*.tar" for side, _ in job.sides()})
    files = []
    for side, _ in job.sides():
        files.append(FileSet(side, f"{side}/clips.jsonl", "application/jsonlines", {"shard": "The shard it is in"}))
        files.append(FileSet(f"{side}-shards", f"{side}/*.tar", "application/x-tar", {}, {}))
    write_croissant(job, out, files)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Put a file into the archive, without owner or date."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
