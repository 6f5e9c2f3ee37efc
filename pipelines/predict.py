"""predict: registered model + raw file -> predictions in the file's own space."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
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
    `SELFSIGHT_FANOUT=ray` inputs are spread over a cluster, whose machines must see model, inputs, `out` and home; on
    one machine they come one after the other, since the network takes all its cores.

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
    on_one = OnOne(Path(model), Path(out), Path(home))
    return _on_all(
        inputs, open_model(model), out, lambda wholes: map_files(on_one, wholes) if on_ray() else map(on_one, wholes)
    )


def predict_with(at_work: Predictor, inputs: Sequence[Path], out: Path, home: Path) -> list[dict[str, Any]]:
    """As `predict`, by a network that is loaded already."""
    return _on_all(inputs, at_work.loaded, out, lambda wholes: (predict_one(one, at_work, out, home) for one in wholes))


def _on_all(
    inputs: Sequence[Path], loaded: Loaded, out: Path,
    predicted: Callable[[Sequence[Candidate]], Iterable[dict[str, Any]]],
) -> list[dict[str, Any]]:  # fmt: skip
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
    wholes = whole_inputs(candidates, loaded)
    with Progress(f"predict {loaded.recipe.name}", len(wholes), unit="subjects") as progress:
        for output in predicted(wholes):
            outputs.append(output)
            progress.advance()
    if not any("files" in output for output in outputs):
        reasons = "; ".join(sorted({o["refused"] for o in outputs})) or "no image among the inputs"
        raise NothingUsable(f"nothing to predict on: {reasons}")
    return outputs


@dataclass(frozen=True)
class OnOne:
    """`predict_one` in any process; the model is read once in each."""

    model: Path
    out: Path
    home: Path

    def __call__(self, candidate: Candidate) -> dict[str, Any]:
        at_work = _at_work(self.model, (self.model / "model.json").stat().st_mtime_ns)
        return predict_one(candidate, at_work, self.out, self.home)


@lru_cache(maxsize=1)
def _at_work(model: Path, written_ns: int) -> Predictor:
    return predictor(open_model(model))


def predict_one(candidate: Candidate, at_work: Predictor, out: Path, home: Path) -> dict[str, Any]:
    """`input` with the `files` written of one subject or recording of `whole_inputs`, or why it was `refused`."""
    source = str(next(iter(candidate.images.values())))
    way = _one if at_work.loaded.domain.recording(candidate) is None else _stream
    try:
        return {"input": source, "files": [str(file) for file in way(candidate, at_work, out, home)]}
    except Refused as refusal:
        return {"input": source, "refused": refusal.reason}


def whole_inputs(candidates: Sequence[Candidate], loaded: Loaded) -> list[Candidate]:
    """The recordings, each once, that candidates are parts of, then the candidates that are no such parts."""
    recordings: dict[Path, Candidate] = {}
    subjects = []
    for candidate in candidates:
        if (whole := loaded.domain.recording(candidate)) is None:
            subjects.append(candidate)
        else:
            recordings.setdefault(next(iter(whole.images.values())), whole)
    return [*recordings.values(), *subjects]


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
