"""Hugging Face's parquet: shards with the clips' bytes in them, as `datasets` and the hub's viewer read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from catalog.errors import PdidError
from catalog.records import RATE
from corpus_builder.export.card import write_card
from corpus_builder.export.clips import COLUMNS, ExportClip, record
from corpus_builder.export.croissant import FileSet, write_croissant
from corpus_builder.export.job import Job, dump

SHARD_BYTES = 500_000_000
"""Bytes of sound in a shard, about: what the hub recommends."""

GROUP = 100
"""Rows in a row group, which a reader takes whole: the hub's viewer wants at most some tens of MB."""


def write(job: Job, out: Path) -> None:
    """Write data/SIDE-00000-of-00003.parquet and so on, README.md and croissant.json.

    The column `audio` is a struct of bytes (the WAV file) and path; the schema's metadata names it as Audio.
    Clips come in the order of their ids, which are hashes, so that neighbours are of different recordings.
    Raises PdidError where pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise PdidError("a parquet export needs pyarrow: pip install 'pdid[parquet]'") from None

    types = {"string": pa.string(), "float64": pa.float64()}
    audio = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = [("audio", audio), *((name, types[kind]) for name, (kind, _) in COLUMNS.items())]
    schema = pa.schema(columns, metadata={"huggingface": dump({"info": {"features": features()}})})
    (out / "data").mkdir()
    for side, clips in job.sides():
        shards = list(into_shards(sorted(clips, key=lambda clip: clip.segment_id), SHARD_BYTES))
        for number, shard in enumerate(shards):
            path = out / "data" / f"{side}-{number:05d}-of-{len(shards):05d}.parquet"
            with pq.ParquetWriter(path, schema, write_page_index=True, compression="snappy") as writer:
                groups = [shard[at : at + GROUP] for at in range(0, len(shard), GROUP)]
                for group in job.watch(groups, f"{side} {number + 1}/{len(shards)}"):
                    rows = [
                        {"audio": {"bytes": job.read(clip), "path": f"{clip.segment_id}.wav"}} | record(clip)
                        for clip in group
                    ]
                    writer.write_table(pa.Table.from_pylist(rows, schema), row_group_size=GROUP)
    write_card(job, out, {side: f"data/{side}-*.parquet" for side, _ in job.sides()})
    files = [
        FileSet(side, f"data/{side}-*.parquet", "application/x-parquet", {"audio": "The clip: WAV, 16 kHz, mono"})
        for side, _ in job.sides()
    ]
    write_croissant(job, out, files)


def features() -> dict[str, Any]:
    """The columns in the words of `datasets`."""
    values = {name: {"dtype": kind, "_type": "Value"} for name, (kind, _) in COLUMNS.items()}
    return {"audio": {"sampling_rate": RATE, "_type": "Audio"}} | values


def into_shards(clips: Sequence[ExportClip], size: int) -> Iterator[list[ExportClip]]:
    """The clips in runs of about `size` bytes of sound, as even as their number allows."""
    total = sum(clip.duration_s for clip in clips) * RATE * 2
    number = max(1, round(total / size))
    shard: list[ExportClip] = []
    done = 0.0
    for clip in clips:
        shard.append(clip)
        done += clip.duration_s * RATE * 2
        if done >= total / number:
            yield shard
            shard, done = [], done - total / number
    if shard:
        yield shard
