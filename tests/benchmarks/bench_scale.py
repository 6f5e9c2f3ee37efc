"""What grows with an archive: bytes and CPU seconds of a volume and a minute of video, and books of many records."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RECORDS = (10_000, 100_000)
VOLUME_SHAPE, VOLUMES = (240, 240, 155), 3
VIDEO_SHAPE, VIDEO_SECONDS = (720, 1280), 20


def cpu_seconds(do: Callable[[], Any]) -> float:
    """CPU seconds of this process, all threads: what other programs do meanwhile does not count."""
    started = time.process_time()
    do()
    return time.process_time() - started


def weight(folder: Path) -> tuple[int, int]:
    """Bytes, and files and folders, below a folder."""
    inside = list(folder.rglob("*"))
    return sum(path.stat().st_size for path in inside if path.is_file()), len(inside)


def volumes(folder: Path) -> dict[str, float]:
    """Ingest of brain volumes of a usual size."""
    import nibabel

    from domains.domain import find_recipe
    from domains.store import Store
    from pipelines.dataset import open_dataset
    from pipelines.ingest import ingest
    from pipelines.models import new_model
    from pipelines.runtime import inference

    axes = np.ogrid[tuple(slice(-1, 1, 1j * n) for n in VOLUME_SHAPE)]
    head = (sum(axis**2 for axis in axes) < 0.8).astype(np.float32)
    source = 0
    for i in range(VOLUMES):
        rng = np.random.default_rng(i)
        data = head * rng.normal(600, 60, VOLUME_SHAPE) + rng.gamma(2, 8, VOLUME_SHAPE)
        path = folder / "volumes" / f"p{i}" / "flair.nii.gz"
        path.parent.mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(data.astype(np.int16), np.eye(4)), path)
        source += path.stat().st_size
    home, (domain, recipe) = folder / "home-volumes", find_recipe("brain_tumor")
    seconds = cpu_seconds(lambda: ingest(folder / "volumes", recipe, home))
    stored, inodes = weight(home / "store" / "ingest")
    locks = len(list((home / "locks").iterdir()))
    manifest, _ = open_dataset(recipe, home)
    network, head = new_model(recipe, manifest.contract).eval(), domain.heads[recipe.head]  # its weights cost the same
    entry = Store(home).path("ingest", manifest.subjects[0].entry)
    with inference(recipe.precision):
        predicted = cpu_seconds(lambda: head.predict(network, entry, manifest.contract))
    return {
        "volume_predict_cpu_seconds": predicted,
        "volume_cpu_seconds": seconds / VOLUMES, "volume_source_mb": source / VOLUMES / 1e6,
        "volume_stored_mb": stored / VOLUMES / 1e6, "volume_inodes": (inodes + locks) / VOLUMES,
    }  # fmt: skip


def video(folder: Path) -> dict[str, float]:
    """Ingest of a textured 720p recording at 30 frames a second."""
    import av

    from domains.domain import find_recipe
    from pipelines.ingest import ingest

    path, rng = folder / "drives" / "a.mp4", np.random.default_rng(0)
    path.parent.mkdir()
    wide = np.kron(rng.integers(0, 255, (90, 400, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = *VIDEO_SHAPE, "yuv420p"
        for i in range(30 * VIDEO_SECONDS):
            shown = wide[:, i : i + VIDEO_SHAPE[1]]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(shown), format="rgb24")))
        container.mux(stream.encode())
    home, recipe = folder / "home-drives", find_recipe("road_scene")[1]
    seconds = cpu_seconds(lambda: ingest(path.parent, recipe, home))
    stored, _ = weight(home / "store" / "ingest")
    return {
        "video_cpu_seconds_a_minute": seconds * 60 / VIDEO_SECONDS,
        "video_stored_mb_a_minute": stored * 60 / VIDEO_SECONDS / 1e6,
    }


def books(count: int) -> dict[str, float]:
    """What every ingest and every verb does with a manifest of so many volumes, one file each."""
    from domains.domain import Candidate, Scan, find_recipe
    from domains.erased import Erased
    from domains.identity import Identity
    from domains.manifest import Contract, Manifest, Record, Subject, read_manifest
    from domains.store import Store
    from pipelines.dataset import Dataset
    from pipelines.taking import Taker

    domain, recipe = find_recipe("brain_tumor")
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    facts = {"shape": [240, 240, 155], "spacing_mm": [1.0, 1.0, 1.0], "site": "site 4", "missing_channels": "none",
             "quality": {"snr": 31.25, "foreground": 0.41, "clipped": 0.0001}}  # fmt: skip
    contract = Contract(
        domain="medical", version=1, in_channels=1, num_classes=2, crop_shape=(64, 64, 64), pooling=((1, 1, 1),),
        patch_shape=(8, 8, 8), rules={"orientation": "RAS"},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store, identity = Store(folder / "home"), Identity(folder / "key")
        source = folder / "archive"
        source.mkdir()
        (source / "one").write_text("x")
        store.build("ingest", "0" * 32, lambda out: {})
        paths = [source / f"p{i:07}" / "flair.nii.gz" for i in range(count)]
        ids = [identity.keyed("file", "n", str(path.relative_to(source))) for path in paths]
        subjects = [identity.keyed("subject", "n", f"p{i:07}") for i in range(count)]
        manifest = Manifest(
            recipe=recipe.name, contract=contract, sources={},
            records=tuple(
                Record(file_id=i, verdict="accepted", subject_id=s) for i, s in zip(ids, subjects, strict=True)
            ),
            subjects=tuple(
                Subject(subject_id=s, group_id=s, split_bucket=i % 1000, entry="0" * 32, content_digest=f"{i:064x}",
                        facts=facts)
                for i, s in enumerate(subjects)
            ),
        )  # fmt: skip
        file = folder / "manifest.json"
        figures = {"write": cpu_seconds(lambda: file.write_text(manifest.model_dump_json(indent=1)))}
        figures["megabytes"] = file.stat().st_size / 1e6
        figures["digest"] = cpu_seconds(lambda: manifest.digest)
        figures["read"] = cpu_seconds(lambda: read_manifest(file))
        seen = (source / "one").stat()
        dataset = Dataset(manifest="m", files=dict.fromkeys(ids, (seen.st_size, seen.st_mtime_ns)))
        candidates = [
            Candidate(name=f"p{i:07}", group=f"p{i:07}", images={"flair": path}) for i, path in enumerate(paths)
        ]
        scan = Scan("made up", "n", candidates)
        taker = Taker(domain, scan, source, recipe, contract, store, identity, Erased(), dataset, manifest)
        real, Path.stat = Path.stat, lambda self, **_: seen  # one file stands for all
        try:
            figures["is_new"] = cpu_seconds(lambda: list(taker.take(candidates)))
        finally:
            Path.stat = real
        names = {i: str(path) for i, path in zip(ids, paths, strict=True)}
        figures["whois_first"] = cpu_seconds(lambda: identity.remember(names))
        figures["whois_again"] = cpu_seconds(lambda: identity.remember(names))
    figures["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before_mb
    return figures


def run() -> dict[str, float]:
    """All figures; the books of each size in a process of their own, for their memory."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        figures |= volumes(Path(temporary)) | video(Path(temporary))
    for count in RECORDS:
        call = "import runpy, sys, json; print(json.dumps(runpy.run_path(sys.argv[1])['books'](int(sys.argv[2]))))"
        done = subprocess.run(
            [sys.executable, "-c", call, __file__, str(count)], capture_output=True, text=True, check=True
        )
        figures |= {f"records_{count}_{key}": value for key, value in json.loads(done.stdout.splitlines()[-1]).items()}
    return figures


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
