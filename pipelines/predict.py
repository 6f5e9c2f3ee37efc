"""predict: registered model + raw file -> predictions in the file's own space."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from domains.domain import Candidate
from domains.errors import NothingUsable, Refused, UsageError
from pipelines.models import open_model, predictor
from pipelines.progress import Progress


def predict(model: Path, inputs: Sequence[Path], out: Path, home: Path) -> list[dict[str, Any]]:
    """Writes a prediction for every subject among the inputs; nothing of them is kept in the home.

    Args:
        model: a model folder.
        inputs: files or folders of the model's domain.
        out: where the files go; names follow the sources'.
        home: unused by the prediction itself, holds temporary arrays on the same disk.

    Returns:
        One dict a subject: `input`, `files` written, or `refused` with the reason; and one for each file of a folder
        that was refused before it became a subject.

    Raises:
        UsageError: an input is not there.
        NothingUsable: every input was refused.
    """
    loaded = open_model(model)
    predict_one = predictor(loaded)
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
    with Progress(f"predict {loaded.recipe.name}", len(candidates), unit="subjects") as progress:
        for candidate in candidates:
            source = str(next(iter(candidate.images.values())))
            with tempfile.TemporaryDirectory(prefix="predict-", dir=home) as folder:
                try:
                    raw = loaded.domain.read(candidate, loaded.recipe)
                    loaded.domain.write(raw, loaded.contract, Path(folder))
                except Refused as refusal:
                    outputs.append({"input": source, "refused": refusal.reason})
                    continue
                prediction = predict_one(Path(folder))
            files = loaded.domain.write_prediction(candidate, prediction, loaded.contract, out)
            outputs.append({"input": source, "files": [str(file) for file in files]})
            progress.advance()
    if not any("files" in output for output in outputs):
        reasons = "; ".join(sorted({o["refused"] for o in outputs})) or "no image among the inputs"
        raise NothingUsable(f"nothing to predict on: {reasons}")
    return outputs
