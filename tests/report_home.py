"""The home of an evaluation with its whole lineage, made without a training; half of its texts are hostile."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

from html_page import HOSTILE

from domains.manifest import Contract, Labels, Manifest, Record, Subject
from domains.store import Store

FILE_LIKE = '../../"><img src=https://evil.example/a.png onerror=alert(1)>.nii.gz'


def png() -> bytes:
    """One grey pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\x80")) + chunk(b"IEND", b"")
    )


def keep(store: Store, stage: str, name: str, files: dict[str, Any], facts: dict[str, Any] | None = None) -> str:
    key = store.key(stage, name)

    def write(folder: Path) -> dict[str, Any]:
        for file, content in files.items():
            path = folder / file
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return facts or {}

    store.build(stage, key, write)
    return key


def a_manifest() -> Manifest:
    contract = Contract(
        domain="nowhere", version=1, in_channels=1, num_classes=2, crop_shape=(32, 32), pooling=((1, 1), (2, 2)),
        patch_shape=(8, 8), rules={"spacing_mm": [1.0, 1.0], "intensity": HOSTILE},
    )  # fmt: skip
    subjects = tuple(
        Subject(
            subject_id=f"subject{i}", group_id=f"group{i}", split_bucket=i, entry=f"entry{i}", content_digest=str(i),
            facts={"shape": [20 + i, 128, 128], "spacing_mm": [2.0, 1.5, 1.5], "site": "AB"[i % 2] + HOSTILE},
        )
        for i in range(6)
    )  # fmt: skip
    records = [Record(file_id=f"file{i}", verdict="accepted", subject_id=f"subject{i}") for i in range(6)]
    records += [Record(file_id=f"mask{i}", verdict="label", subject_id=f"subject{i}") for i in range(6)]
    records += [Record(file_id="bad", verdict="refused", reason=f"truncated {HOSTILE}")]
    records += [Record(file_id="notes", verdict="ignored", reason=FILE_LIKE)]
    return Manifest(
        recipe="brain_tumor", contract=contract, sources={"hospital": f"CC BY 4.0 {HOSTILE}"},
        records=tuple(records), subjects=subjects,
    )  # fmt: skip


def a_home(home: Path, **changes: Any) -> Path:
    """The folder of an evaluation whose whole lineage is in the store of `home`; `changes` go into the evaluation."""
    store, manifest = Store(home), a_manifest()
    data = keep(store, "manifest", "m", {"manifest.json": manifest.model_dump(mode="json")})
    masks = {f"subject{i}": keep(store, "label", str(i), {}, {"tumor_fraction": i / 100}) for i in range(6)}
    labels = keep(store, "labels", "l", {"labels.json": Labels(recipe="brain_tumor", entries=masks).model_dump()})
    outcome = {"steps": 30, "seconds": 3725.0, "samples_per_second": 12.5, "data_wait_share": 0.034, "last_loss": 0.2,
               "peak_memory_mb": 987.0, "resumed_at": [20],
               "losses": [[step, 1 / step] for step in range(1, 1001)]}  # fmt: skip
    about = {"format": 1, "contract": {}, "outcome": outcome, "versions": {"torch": HOSTILE}, "sha256": "ab" * 32,
             "recipe": {"name": "brain_tumor", "objective": "mae + 0.5 * anomaly_synthesis"}}  # fmt: skip
    came_from = {"manifest": data, "sources": manifest.sources, "pretrain_groups": ["group4", "group5"],
                 "probed_groups": ["group4"]}  # fmt: skip
    encoder = keep(store, "pretrain", "e", {
        "model.json": {**about, "kind": "encoder", "lineage": came_from,
                       "health": {"before": {"rankme": 7.25}, "after": {"rankme": 11.5}}},
        "examples-mae.png": png(), "examples-anomaly_synthesis.png": png(),
    })  # fmt: skip
    learned = {**came_from, "labels": labels, "encoder": encoder, "label_groups": ["group4", "group5"]}
    model = keep(store, "finetune", "f", {"model.json": {**about, "kind": "model", "lineage": learned}})
    dice = {"subject0": 0.9, "subject1": 0.2, "subject2": None, "subject3": 0.5}
    cases = [
        {"subject_id": name, "group_id": name.replace("subject", "group"), "metrics": {"dice": value, "hd95": 3.0},
         "trivial": {"dice": 0.1, "hd95": None}, "facts": {"shape": [20, 128, 128]}, "picture": f"cases/{name}.png"}
        for name, value in dice.items()
    ]  # fmt: skip
    cases[0]["picture"] = FILE_LIKE
    spread = {"mean": 0.533, "low": 0.2, "high": 0.9, "n": 3}
    result = {
        "schema_version": 1, "recipe": "brain_tumor", "model": model, "kind": "held-out", "within_group": False,
        "transductive": False, "primary": "dice", "metrics": {"dice": spread}, "half_width": 0.35,
        "trivial": {"name": f"threshold {HOSTILE}", "metrics": {"dice": spread}, "summary": {"uncertainty": 0.2}},
        "paired": {"dice": {"mean": 0.4, "low": 0.1, "high": 0.8, "n": 3}}, "seconds": 12.0, "manifest": data,
        "summary": {"uncertainty": 0.6}, "labels": labels, "cases": cases,
    } | changes  # fmt: skip
    pictures = {f"cases/subject{i}.png": png() for i in range(4)}
    key = keep(store, "evaluate", "v" + json.dumps(changes), {"evaluation.json": result, **pictures})
    return store.path("evaluate", key)
