"""Croissant: the export described for machines, with the Responsible AI fields, filled from the catalog.

Formats: MLCommons, "Croissant Format Specification" 1.0 and "Croissant RAI Specification" 1.0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus_builder.export.about import About, hub_licence
from corpus_builder.export.card import people, processing
from corpus_builder.export.clips import COLUMNS
from corpus_builder.export.job import Job, sha256_of, write_lines

TYPES = {"string": "sc:Text", "float64": "sc:Float", "int64": "sc:Integer", "bool": "sc:Boolean"}
LICENCE_URLS = {
    "apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "cc0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "mit": "https://opensource.org/license/mit",
    "pd": "https://creativecommons.org/publicdomain/mark/1.0/",
}
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


@dataclass(frozen=True, slots=True)
class FileSet:
    """Files of one kind with a row for each clip; they make a record set of the same name."""

    name: str
    glob: str  # relative to the export
    encoding: str
    more: Mapping[str, str]  # columns beside COLUMNS -> meaning; `audio` is one with the sound in it
    columns: Mapping[str, tuple[str, str]] | None = (
        None  # instead of COLUMNS; a.b is b in the column a's object; {} for no rows
    )


def write_croissant(job: Job, out: Path, files: Sequence[FileSet]) -> None:
    """Write croissant.json. Every file the globs find is listed with its size and SHA-256; run it last."""
    objects, sets = [], []
    for group in files:
        found = sorted(out.glob(group.glob))
        for path in found:
            objects.append(_file(path, str(path.relative_to(out)), group.encoding))
        if len(found) > 1:
            sets.append(
                {
                    "@type": "cr:FileSet",
                    "@id": f"{group.name}-files",
                    "encodingFormat": group.encoding,
                    "includes": group.glob,
                }
            )
    text = json.dumps(describe(job, files, objects, sets), ensure_ascii=False, indent=2)
    write_lines(out / "croissant.json", text.splitlines())


def describe(job: Job, files: Sequence[FileSet], objects: list[Any], sets: list[Any]) -> dict[str, Any]:
    """The whole description as JSON-LD."""
    about = job.about
    named = {entry["@id"] for entry in sets}
    day = f"{job.created_at:%Y-%m-%d}"
    words = (
        f"{about.clips} clips of speech, {about.hours:.2f} hours, of {about.speakers} speakers in {about.sources} "
        f"recordings, with accents ({', '.join(sorted({p.accent for p in about.parts if p.accent})) or 'none stated'})"
    )
    described = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": about.name,
        "description": words,
        "license": [_licence(licence) for licence in about.licences if licence] or ["not stated"],
        "inLanguage": sorted(language for language in about.languages if language),
        "keywords": ["speech", "accents", "automatic speech recognition"],
        "datePublished": day,
        "version": "1.0.0",
        "citeAs": f"@misc{{pdid, title = {{{about.name}}}, year = {{{job.created_at:%Y}}}, note = {{{words}}}}}",
        "distribution": [*objects, *sets],
        "recordSet": [
            _record_set(group, f"{group.name}-files" in named, objects) for group in files if group.columns != {}
        ],
        **responsible(about),
    }
    return {key: value for key, value in described.items() if value not in (None, [], "")}


def responsible(about: About) -> dict[str, Any]:
    """The fields of the Responsible AI extension that the catalog can answer."""
    shares = [f"{accent or 'no accent'} {share:.1%}" for accent, share in about.kept_share.items()]
    origins = {**about.text_origins}
    none = origins.pop("", 0)
    frame = [f"{moment:%Y-%m-%d}" for moment in (about.first_upload, about.last_upload) if moment]
    parts = [f"{p.accent or 'no accent'}, {p.side}: {p.hours:.2f} h of {p.speakers} speakers" for p in about.parts]
    return {
        "rai:dataCollection": f"{about.sources} recordings ({about.raw_hours:.2f} hours), cut by machine into clips of "
        "one speaker. Their addresses are in the catalog, by source_id.",
        "rai:dataCollectionType": ["Audio", "Existing recordings"],
        "rai:dataCollectionMissingData": f"{none} of {about.clips} clips have no text; "
        f"{sum(p.clips for p in about.parts if not p.accent)} have no accent; "
        f"{about.licences.get('', 0)} have no stated licence.",
        "rai:dataCollectionTimeframe": frame,
        "rai:dataPreprocessingProtocol": [line.removeprefix("- ") for line in processing(about)],
        "rai:dataAnnotationProtocol": [
            *(f"accents: {n} labels by {origin}" for origin, n in about.label_origins.items()),
            *(f"texts: {n} clips, {origin}" for origin, n in origins.items()),
        ],
        "rai:machineAnnotationTools": list(about.models),
        "rai:dataBiases": [
            "Hours and speakers by accent and side: " + "; ".join(parts),
            "Kept of the recordings' speech, by accent: " + "; ".join(shares),
            "Speech of recordings that were published differs from everyday speech; accent goes with channel, "
            "subject and recording quality.",
        ],
        "rai:dataLimitations": [
            "Accents, speakers and texts are as right as who or what they come from, which is stated for each."
        ],
        "rai:dataUseCases": ["Training and testing speech recognition across accents", "Accent classification"],
        "rai:personalSensitiveInformation": [
            " ".join(people()[:3]).split(" Use this")[0],
            "Accents tell of origin.",
        ],
    }


def _licence(licence: str) -> str:
    """A licence's address where it is a known one."""
    name = hub_licence(licence)
    if name and name.startswith("cc-"):
        kind, _, number = name.removeprefix("cc-").rpartition("-")
        return f"https://creativecommons.org/licenses/{kind}/{number}/"
    return LICENCE_URLS.get(name or "", licence)


def _file(path: Path, name: str, encoding: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": encoding,
        "sha256": sha256_of(path),
    }


def _record_set(group: FileSet, is_set: bool, objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The rows of a group of files, with a field for each column."""
    where: dict[str, Any]
    if is_set:
        where = {"fileSet": {"@id": f"{group.name}-files"}}
    else:
        where = {"fileObject": {"@id": next(o["@id"] for o in objects if Path(o["@id"]).match(group.glob))}}
    fields = []
    columns: dict[str, tuple[str, str]] = {name: ("string", meaning) for name, meaning in group.more.items()}
    for name, (kind, meaning) in (columns | dict(COLUMNS if group.columns is None else group.columns)).items():
        column, _, inside = name.partition(".")
        source: dict[str, Any] = {**where, "extract": {"column": column}}
        if inside:
            source["transform"] = {"jsonPath": inside}
        if name == "audio":
            source["transform"] = {"jsonPath": "bytes"}
        fields.append(
            {
                "@type": "cr:Field",
                "@id": f"{group.name}/{inside or column}",
                "name": inside or column,
                "description": meaning,
                "dataType": "sc:AudioObject" if name == "audio" else TYPES[kind],
                "source": source,
            }
        )
    return {"@type": "cr:RecordSet", "@id": group.name, "name": group.name, "field": fields}
