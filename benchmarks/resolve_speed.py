"""How long it takes to settle which accent and text each piece has, after an import into a large corpus.

    python -m benchmarks.resolve_speed [SOURCES=20] [PIECES=500]

Each piece of 9.5 s has three stretches of speech, three subtitles and a model's transcript. Prints one table.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from catalog.resolve import resolve
from catalog.store import Catalog, open_catalog

MAKE = (
    """INSERT INTO base.source (
        source_id, uri, sha256, n_samples, sample_rate, channels, lost_packets, status, extra, accent
    ) SELECT printf('%016x', i), '/m/' || i, printf('%016x', i) || repeat('0', 48), 160000 * $pieces, 44100, 1, 0,
        'done', MAP {}, 'Yazdi' FROM range($sources) t(i)""",
    """INSERT INTO base.segment (segment_id, source_id, speaker_id, start_sample, end_sample, kept, path, separated)
    SELECT printf('%016x-%d', i, j), printf('%016x', i), printf('%016x-S%d', i, j % 3), j * 160000, j * 160000 + 152000,
        true, i || '/' || j, false FROM range($sources) t(i), range($pieces) u(j)""",
    """INSERT INTO base.mark SELECT printf('%016x', i), 'speech', j * 160000 + k * 50000 + 2400,
        j * 160000 + k * 50000 + 48000, '', NULL FROM range($sources) t(i), range($pieces) u(j), range(3) v(k)""",
    """INSERT INTO base.transcript SELECT printf('%x-%x-%x', i, j, k), printf('%016x', i),
        j * 160000 + k * 50000 + 1000, j * 160000 + k * 50000 + 50500,
        'text ' || k, 'fa', 'subtitle', 'x', NULL, [], TIMESTAMP '2026-01-01'
        FROM range($sources) t(i), range($pieces) u(j), range(3) v(k)""",
    """INSERT INTO base.transcript SELECT printf('m%x-%x', i, j), printf('%016x', i), j * 160000, j * 160000 + 152000,
        'model', 'fa', 'model:x', 'x 1', 0.5, [], TIMESTAMP '2026-01-01'
        FROM range($sources) t(i), range($pieces) u(j)""",
)


def seconds(catalog: Catalog, source_ids: list[str]) -> float:
    start = time.perf_counter()
    with catalog.transaction():
        resolve(catalog.connection, source_ids)
    return time.perf_counter() - start


def main(sources: int, pieces: int) -> None:
    with tempfile.TemporaryDirectory() as folder, open_catalog(Path(folder), write=True) as catalog:
        for statement in MAKE:
            values = {"sources": sources, "pieces": pieces}
            catalog.connection.execute(statement, {name: n for name, n in values.items() if f"${name}" in statement})
        ids = [source.source_id for source in catalog.sources()]
        whole = seconds(catalog, ids)
        shown = catalog.query("SELECT count(*) FROM segments WHERE text = 'text 0 text 1 text 2'").rows
        print(f"| pieces, transcripts | {sources * pieces}, {4 * sources * pieces} |")
        print(f"| settled at once | {whole:.2f} s; {next(shown)[0]} pieces show their subtitles |")
        alone = [seconds(catalog, [one]) for one in ids[:5]]
        print(f"| one recording of {pieces} pieces | {sum(alone) / len(alone):.3f} s |")


if __name__ == "__main__":
    main(*[int(word) for word in sys.argv[1:]] + [20, 500][len(sys.argv) - 1 :])
