"""serve: one input of a model server, a path or base64 -> figures, and masks and pictures as base64, as JSON."""

from __future__ import annotations

import base64
import binascii
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from domains.errors import Refused, SelfsightError
from pipelines.models import Predictor
from pipelines.predict import predict_with

ROOT = "SELFSIGHT_SERVE_ROOT"
"""Environment variable: the folder below which a server reads paths that it is sent; without it none."""
LONGEST = 512 * 2**20
"""Bytes of a file that is sent as base64."""
FIGURES = (".json", ".jsonl")


def answer(row: Mapping[str, Any], at_work: Predictor) -> dict[str, Any]:
    """What a server says of one input; nothing of it stays on the disk.

    Args:
        row: "path" of a file or folder below `SELFSIGHT_SERVE_ROOT`, or "content", the base64 of a NIfTI file (plain
            or gzipped), a JPEG or a PNG.
        at_work: the model.

    Returns:
        "predictions", a dict for each subject: "figures" (what `selfsight predict` writes as JSON) and "files" (name,
        base64 "content": the mask as NIfTI, the overlay as PNG), or "refused" with the reason; of an input that is
        refused as a whole "refused" alone.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="selfsight-serve-") as scratch:
            place = Path(scratch)
            source = _source(row, place)
            return {"predictions": [_told(one) for one in predict_with(at_work, [source], place / "out", place)]}
    except Refused as refusal:
        return {"refused": refusal.reason}
    except SelfsightError as error:
        return {"refused": str(error)}


def _source(row: Mapping[str, Any], place: Path) -> Path:
    """The file that a row is about.

    Raises:
        Refused: it names none, or one that must not be read.
    """
    path, content = ("" if _absent(row.get(key)) else row[key] for key in ("path", "content"))
    if not isinstance(path, str) or not isinstance(content, str) or bool(path) == bool(content):
        raise Refused('an input has either "path" or "content" (base64), as text')
    return _below_root(path) if path else _decoded(content, place)


def _absent(value: Any) -> bool:
    """A table has nan in the cell of a row that leaves a column out."""
    return value is None or value != value


def _below_root(path: str) -> Path:
    root = os.environ.get(ROOT)
    if not root:
        raise Refused(f'paths are not read here: {ROOT} is not set; send the file as base64 in "content"')
    if "\0" in path:
        raise Refused("this is no path")
    found = (Path(root) / path).resolve()  # links are followed before it is asked where that is
    if not found.is_relative_to(Path(root).resolve()):
        raise Refused(f"this path is not below {ROOT}")
    if not found.exists():
        raise Refused(f"there is no such file below {ROOT}")
    return found


def _decoded(content: str, place: Path) -> Path:
    if len(content) > LONGEST * 4 // 3 + 4:
        raise Refused(f"the content is longer than {LONGEST // 2**20} MB: send a path")
    try:
        data = base64.b64decode(content, validate=True)
    except binascii.Error:
        raise Refused("the content is not base64") from None
    file = place / f"input{_suffix(data)}"
    file.write_bytes(data)
    return file


def _suffix(data: bytes) -> str:
    """The kind of a file by its first bytes."""
    if data[:2] == b"\x1f\x8b":
        return ".nii.gz"
    if data[344:348] in (b"n+1\0", b"ni1\0"):
        return ".nii"
    if data[:3] == b"\xff\xd8\xff":
        return ".jpg"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return ".png"
    if data[4:8] == b"ftyp":
        raise Refused("a recording is not taken as base64: send its path")
    raise Refused("the content is no NIfTI, JPEG or PNG file")


def _told(output: Mapping[str, Any]) -> dict[str, Any]:
    """Files of a prediction as JSON; the folders of this machine stay out."""
    if "refused" in output:
        return {"refused": output["refused"]}
    paths = [Path(file) for file in output["files"]]
    lines = {path: path.read_text() for path in paths if path.suffix in FIGURES}
    figures = {
        path.name: [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)
        for path, text in lines.items()
    }
    files = [
        {"name": path.name, "content": base64.b64encode(path.read_bytes()).decode()}
        for path in paths
        if path.suffix not in FIGURES
    ]
    return {"figures": figures, "files": files}
