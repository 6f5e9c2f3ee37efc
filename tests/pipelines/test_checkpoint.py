"""Checkpoints: exact round trip, damage passed over with a word, pickles refused."""

from __future__ import annotations

import os
import pickle
import resource
from pathlib import Path

import pytest
import torch
from torch import Tensor

from domains.errors import SelfsightError, UnsafeCheckpoint, UsageError
from pipelines import checkpoint
from pipelines.checkpoint import Damaged, latest, load, read_model, read_weights, save, write_model


def _tensors() -> dict[str, Tensor]:
    weight = torch.randn(4, 1, 3, 3)
    tied = torch.randn(5)
    return {
        "model.conv": torch.empty_like(weight, memory_format=torch.channels_last).copy_(weight),
        "model.turned": torch.randn(3, 4).T,
        "model.tied": tied,
        "model.tied_again": tied,
        "optimizer.0.step": torch.tensor(7.0),
        "rng": torch.get_rng_state(),
        "half": torch.randn(3).bfloat16(),
    }


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/selfsight-was-here",)


def test_save__round_trip_with_layouts(tmp_path: Path) -> None:
    tensors = _tensors()
    loaded = load(save(tmp_path, 12, tensors, {"identity": {"a": 1}, "losses": [[1, 0.5]]}))
    assert loaded.step == 12
    assert loaded.state == {"identity": {"a": 1}, "losses": [[1, 0.5]]}
    for name, tensor in tensors.items():
        assert torch.equal(loaded.tensors[name], tensor)
        assert (loaded.tensors[name].stride(), loaded.tensors[name].dtype) == (tensor.stride(), tensor.dtype), name


def test_save__keeps_two_and_no_temporary(tmp_path: Path) -> None:
    (tmp_path / ".step-00000009-dead").mkdir()
    for step in (1, 2, 3):
        save(tmp_path, step, _tensors(), {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def test_save__removes_what_a_superseded_run_left(tmp_path: Path) -> None:
    for step in (10, 20):
        save(tmp_path, step, _tensors(), {})
    save(tmp_path, 15, _tensors(), {})
    assert [p.name for p in checkpoint.steps(tmp_path)] == ["step-00000010", "step-00000015"]


def test_save__disk_full_keeps_the_earlier_ones(tmp_path: Path) -> None:
    save(tmp_path, 1, _tensors(), {})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(SelfsightError, match=r"cannot be written .* needs 4 MB"):
            save(tmp_path, 2, {"big": torch.zeros(2**20)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]
    found = latest(tmp_path)
    assert found is not None and found.step == 1


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", ["flip", "truncate", "state", "partial", "empty"])
def test_latest__damaged_one_is_passed_over_and_named(tmp_path: Path, damage: str) -> None:
    save(tmp_path, 1, _tensors(), {})
    last = save(tmp_path, 2, _tensors(), {})
    if damage == "flip":
        _flip(last / "tensors.safetensors")
    elif damage == "truncate":
        os.truncate(last / "tensors.safetensors", 200)
    elif damage == "state":
        _flip(last / "state.json")
    elif damage == "partial":
        (last / "sha256.json").unlink()
    else:
        (last / "tensors.safetensors").write_bytes(b"")
    said: list[str] = []
    found = latest(tmp_path, said.append)
    assert found is not None and found.step == 1
    assert len(said) == 1 and "step-00000002" in said[0] and "falling back" in said[0]


def test_latest__nothing_there(tmp_path: Path) -> None:
    assert latest(tmp_path / "none") is None


def test_latest__a_pickle_beside_the_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(1)}, save(tmp_path, 1, _tensors(), {}) / "extra.pt")
    with pytest.raises(UnsafeCheckpoint, match=r"extra\.pt.*zip archive"):
        latest(tmp_path)


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.ckpt", "w.pkl", "w.bin", "w.safetensors"])
@pytest.mark.parametrize("protocol", [2, 4, "zip"])
def test_read_weights__pickle_is_refused_whatever_its_name(tmp_path: Path, name: str, protocol: int | str) -> None:
    path = tmp_path / name
    if protocol == "zip":
        torch.save({"x": Evil()}, path)
    else:
        path.write_bytes(pickle.dumps(Evil(), protocol=int(protocol)))
    with pytest.raises(UnsafeCheckpoint, match="zip archive" if protocol == "zip" else "a pickle"):
        read_weights(path)
    with pytest.raises(UnsafeCheckpoint):
        read_model(path)
    assert not Path("/tmp/selfsight-was-here").exists()


def test_read_weights__header_that_looks_like_a_pickle(tmp_path: Path) -> None:
    """A header of 0x280 bytes begins with the two bytes of a pickle and is none."""
    tensors = {f"t{i:04d}": torch.ones(1) for i in range(9)}
    write_model(tmp_path, tensors, {})
    path = tmp_path / "weights.safetensors"
    header = path.read_bytes()[8:]
    body = header[: len(header) - 36].rstrip().ljust(0x280) + header[-36:]
    path.write_bytes((0x280).to_bytes(8, "little") + body)
    assert read_weights(path).keys() == tensors.keys()


def test_read_weights__missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no weights file .*gone\.safetensors"):
        read_weights(tmp_path / "gone.safetensors")


def test_write_model__round_trip(tmp_path: Path) -> None:
    tensors = _tensors()
    write_model(tmp_path / "m", tensors, {"kind": "encoder", "recipe": {"name": "x"}})
    again, info = read_model(tmp_path / "m")
    assert info["kind"] == "encoder" and len(info["sha256"]) == 64
    assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())


def test_read_model__damaged_weights(tmp_path: Path) -> None:
    write_model(tmp_path, _tensors(), {})
    _flip(tmp_path / "weights.safetensors")
    with pytest.raises(Damaged, match="sha256"):
        read_model(tmp_path)


def test_read_model__no_model_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no model\.json"):
        read_model(tmp_path)


def test_read_model__folder_with_a_pickle(tmp_path: Path) -> None:
    write_model(tmp_path, _tensors(), {})
    (tmp_path / "optimizer.pkl").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UnsafeCheckpoint, match=r"optimizer\.pkl"):
        read_model(tmp_path)
