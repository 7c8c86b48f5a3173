"""Writing the corpus out: one module a format, each with a `write(job, out)`."""

from __future__ import annotations

FORMATS = {
    "audiofolder": "Hugging Face: a folder of clips and metadata.jsonl for each side of the split",
    "parquet": "Hugging Face: shards with the clips' bytes in them (extra `parquet`)",
    "nemo": "NeMo: clips and a JSONL manifest for each side",
    "lhotse": "Lhotse: clips, recordings, supervisions and cuts for each side (extra `lhotse`)",
    "kaldi": "Kaldi: clips and a data folder for each side",
    "webdataset": "WebDataset: tar shards for each side",
    "rttm": "who speaks when, a file for each recording; no audio",
    "audacity": "label tracks for Audacity, a file for each recording; no audio",
    "metadata": "addresses, times, labels and texts, no audio: what `pdid rebuild` recreates the corpus from",
}
"""Name -> what it is; the module `corpus_builder.export.NAME` writes it."""
