"""Checkpoints and model folders: safetensors and plain JSON, whole or not at all, never a pickle."""

from __future__ import annotations

import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from domains.errors import SelfsightError, UnsafeCheckpoint, UsageError
from domains.store import fsync

FORMAT_VERSION = 1
KEPT = 2
PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin")


class Damaged(SelfsightError):
    """A checkpoint or model that is not what its digests say."""


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory."""

    step: int
    tensors: dict[str, Tensor]
    """On the CPU, in the memory layout they were saved from."""
    state: dict[str, Any]


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
    """Writes `folder/step-NNNNNNNN/` and keeps the newest two; later ones, of a superseded run, are removed.

    Args:
        folder: of one run; the caller holds the run's lock.
        step: steps that were done.
        tensors: any layout, tied ones included; contiguous copies are written and the strides noted.
        state: JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left_over in folder.glob(".step-*"):
        shutil.rmtree(left_over)
    path = folder / f"step-{step:08d}"
    temporary = folder / f".{path.name}-{uuid.uuid4().hex[:8]}"
    temporary.mkdir()
    strides = {name: list(tensor.stride()) for name, tensor in tensors.items() if _laid_out(tensor)}
    about = {"format_version": FORMAT_VERSION, "step": step, "strides": strides, "state": dict(state)}
    try:
        save_file(_plain(tensors), temporary / "tensors.safetensors")
        (temporary / "state.json").write_text(json.dumps(about))
        digests = {name: digest_of_file(temporary / name) for name in ("tensors.safetensors", "state.json")}
        (temporary / "sha256.json").write_text(json.dumps(digests))
        for file in temporary.iterdir():
            fsync(file)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        needed = sum(tensor.nbytes for tensor in tensors.values()) / 2**20
        raise SelfsightError(
            f"checkpoint {path} cannot be written ({error}); it needs {needed:.0f} MB. Those before it are untouched: "
            "make room and run the same command again"
        ) from error
    fsync(temporary)
    shutil.rmtree(path, ignore_errors=True)
    os.rename(temporary, path)
    fsync(folder)
    others = [other for other in steps(folder) if other != path]
    earlier = [other for other in others if other.name < path.name]
    for old in set(others) - set(earlier[1 - KEPT :]):
        shutil.rmtree(old)
    return path


def latest(folder: Path, warn: Callable[[str], None] = lambda text: print(text, file=sys.stderr)) -> Loaded | None:
    """The newest checkpoint that is whole, or None; each damaged one that is passed over is told to `warn`.

    Raises:
        UnsafeCheckpoint: one of them carries a pickle.
    """
    for path in reversed(steps(folder)):
        try:
            return load(path)
        except Damaged as error:
            warn(f"{error}; falling back to the checkpoint before it")
    return None


def load(path: Path) -> Loaded:
    """One checkpoint folder, verified.

    Raises:
        Damaged: a part is missing or differs from its digest.
        UnsafeCheckpoint: it holds a pickle.
    """
    refuse_pickles(path)
    try:
        digests = json.loads((path / "sha256.json").read_text())
        for name in ("tensors.safetensors", "state.json"):
            if digest_of_file(path / name) != digests[name]:
                raise Damaged(f"checkpoint {path}: {name} differs from its sha256")
        about = json.loads((path / "state.json").read_text())
        if about["format_version"] != FORMAT_VERSION:
            raise UsageError(
                f"checkpoint {path} has format {about['format_version']}, this version reads {FORMAT_VERSION}; "
                f"finish the run with the version that began it, or delete {path.parent} to start again"
            )
        tensors = load_file(path / "tensors.safetensors")
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise Damaged(f"checkpoint {path} is not whole ({type(error).__name__}: {error})") from error
    for name, stride in about["strides"].items():
        laid_out = torch.empty_strided(tensors[name].shape, stride, dtype=tensors[name].dtype)
        tensors[name] = laid_out.copy_(tensors[name])
    return Loaded(about["step"], tensors, about["state"])


def steps(folder: Path) -> list[Path]:
    """Checkpoint folders of a run, oldest first; whether they are whole is not looked at."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def write_model(folder: Path, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
    """A model folder: `weights.safetensors`, and `model.json` with `info` (JSON) and the weights' `sha256`."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_plain(tensors), folder / "weights.safetensors")
    digest = digest_of_file(folder / "weights.safetensors")
    about = {**info, "format_version": FORMAT_VERSION, "sha256": digest}
    (folder / "model.json").write_text(json.dumps(about, sort_keys=True, indent=1))


def read_model(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and info of a model folder, verified.

    Raises:
        UsageError: there is no model there.
        Damaged: the weights differ from their digest.
        UnsafeCheckpoint: the folder (or the file given in its place) holds a pickle.
    """
    if folder.is_file():
        refuse_pickle(folder)
    if not (folder / "model.json").is_file():
        if folder.is_dir():
            refuse_pickles(folder)
        raise UsageError(
            f"{folder} is not a model folder: it has no model.json; give a model folder or models:/name@alias"
        )
    refuse_pickles(folder)
    info: dict[str, Any] = json.loads((folder / "model.json").read_text())
    weights = folder / "weights.safetensors"
    if not weights.is_file() or digest_of_file(weights) != info.get("sha256"):
        raise Damaged(f"model {folder}: weights.safetensors is missing or differs from the sha256 in model.json")
    return read_weights(weights), info


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises:
        UsageError: there is no such file.
        UnsafeCheckpoint: it is a pickle, or anything else that is not safetensors; it is never opened as one.
    """
    if not path.is_file():
        raise UsageError(f"there is no weights file {path}")
    refuse_pickle(path)
    return load_file(path)


def refuse_pickles(folder: Path) -> None:
    """Raises UnsafeCheckpoint when a file below `folder` is a pickle by its name, or a .safetensors file is not one."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in (*PICKLES, ".safetensors") and path.is_file() and path.stat().st_size:
            refuse_pickle(path, damaged_is_fine=True)


def refuse_pickle(path: Path, *, damaged_is_fine: bool = False) -> None:
    """Raises UnsafeCheckpoint unless `path` is a safetensors file by name and by content.

    Args:
        damaged_is_fine: let a .safetensors file pass whose content is neither safetensors nor a known carrier of
            pickles: a digest will tell.
    """
    with open(path, "rb") as file:
        head = file.read(16)
    size = path.stat().st_size
    is_safetensors = head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8
    if head[:4] == b"PK\x03\x04":
        content = "a zip archive, which is how torch.save wraps pickles"
    elif head[:1] == b"\x80" and not is_safetensors:
        content = "a pickle"
    else:
        content = "safetensors" if is_safetensors else "neither safetensors nor a known format"
    if path.suffix.lower() == ".safetensors" and (
        is_safetensors or (damaged_is_fine and content.startswith("neither"))
    ):
        return
    raise UnsafeCheckpoint(
        f"{path} is refused: the name ends in {path.suffix or 'nothing'!r} and the content is {content}; loading a "
        "pickle runs whatever code is in it. Convert it where it comes from with safetensors.torch.save_file"
    )


def digest_of_file(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    digest = sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _laid_out(tensor: Tensor) -> bool:
    """Whether the strides are not the default ones; `is_contiguous` does not see axes of length 1, kernels do."""
    return tensor.stride() != torch.empty(tensor.shape, device="meta").stride()


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies of their own: safetensors refuses other layouts and shared memory."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
