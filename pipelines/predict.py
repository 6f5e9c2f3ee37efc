"""predict: registered model + raw file -> predictions in the file's own space."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from domains.domain import Candidate
from domains.errors import NothingUsable, Refused, UsageError
from pipelines.fan_out import map_files, on_ray
from pipelines.models import Loaded, Predictor, open_model, predictor
from pipelines.progress import Progress


def predict(model: Path, inputs: Sequence[Path], out: Path, home: Path) -> list[dict[str, Any]]:
    """Writes a prediction for every subject among the inputs; nothing of them is kept in the home.

    A recording is predicted on as a whole, as a stream, however many subjects `ingest` would cut it into. With
    `SELFSIGHT_FANOUT=ray` subjects are spread over a cluster, whose machines must see model, inputs, `out` and home.

    Args:
        model: a model folder.
        inputs: files or folders of the model's domain.
        out: where the files go; names follow the sources'.
        home: unused by the prediction itself, holds temporary arrays on the same disk.

    Returns:
        One dict a subject or recording: `input`, `files` written, or `refused` with the reason; and one for each file
        of a folder that was refused before it became a subject.

    Raises:
        UsageError: an input is not there.
        NothingUsable: every input was refused.
    """
    loaded = open_model(model)
    candidates: list[Candidate] = []
    outputs: list[dict[str, Any]] = []
    for path in inputs:
        if not path.exists():
            raise UsageError(f"no file or folder at {path}")
        if path.is_dir():
            found = loaded.domain.scan(path, loaded.recipe)
            candidates += [replace(candidate, label=None) for candidate in found.candidates]
            outputs += [{"input": str(file), "refused": reason} for file, reason in found.refused.items()]
        else:
            candidates += loaded.domain.open_inputs(path, loaded.recipe)
    out.mkdir(parents=True, exist_ok=True)
    recordings, subjects = _apart(candidates, loaded)
    with Progress(f"predict {loaded.recipe.name}", len(recordings) + len(subjects), unit="subjects") as progress:
        scorer = Scorer(Path(model), Path(out), Path(home))
        for output in _scored(scorer, [*((r, True) for r in recordings), *((s, False) for s in subjects)]):
            outputs.append(output)
            progress.advance()
    if not any("files" in output for output in outputs):
        reasons = "; ".join(sorted({o["refused"] for o in outputs})) or "no image among the inputs"
        raise NothingUsable(f"nothing to predict on: {reasons}")
    return outputs


def _apart(candidates: Sequence[Candidate], loaded: Loaded) -> tuple[list[Candidate], list[Candidate]]:
    """The recordings, each once, that candidates are parts of, and the candidates that are no such parts."""
    recordings: dict[Path, Candidate] = {}
    subjects = []
    for candidate in candidates:
        if (whole := loaded.domain.recording(candidate)) is None:
            subjects.append(candidate)
        else:
            recordings.setdefault(next(iter(whole.images.values())), whole)
    return list(recordings.values()), subjects


@dataclass(frozen=True)
class Scorer:
    """Predicts on one candidate at a time, in any process; the model is read once in each."""

    model: Path
    out: Path
    home: Path

    def __call__(self, job: tuple[Candidate, bool]) -> dict[str, Any]:
        """What became of a candidate, which may be a whole recording."""
        candidate, whole = job
        source = str(next(iter(candidate.images.values())))
        at_work = _at_work(self.model, (self.model / "model.json").stat().st_mtime_ns)
        try:
            files = (_stream if whole else _one)(candidate, at_work, self.out, self.home)
        except Refused as refusal:
            return {"input": source, "refused": refusal.reason}
        return {"input": source, "files": [str(file) for file in files]}


def _scored(scorer: Scorer, jobs: Sequence[tuple[Candidate, bool]]) -> Iterator[dict[str, Any]]:
    """On one machine one after the other: the network takes all its cores."""
    return map_files(scorer, jobs) if on_ray() else map(scorer, jobs)


@lru_cache(maxsize=1)
def _at_work(model: Path, written_ns: int) -> Predictor:
    return predictor(open_model(model))


def _stream(recording: Candidate, predict: Predictor, out: Path, home: Path) -> list[Path]:
    loaded = predict.loaded
    assert loaded.domain.stream is not None
    return loaded.domain.stream(recording, predict.of_frames, loaded.contract, loaded.recipe, out)


def _one(candidate: Candidate, predict: Predictor, out: Path, home: Path) -> list[Path]:
    loaded = predict.loaded
    with tempfile.TemporaryDirectory(prefix="predict-", dir=home) as folder:
        raw = loaded.domain.read(candidate, loaded.recipe)
        loaded.domain.write(raw, loaded.contract, Path(folder))
        prediction, evidence = predict(Path(folder)), predict.evidence(Path(folder))
    return loaded.domain.write_prediction(candidate, prediction, loaded.contract, out, evidence)
