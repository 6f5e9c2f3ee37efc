"""A prediction as files in the source's own geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from domains.domain import Candidate
from domains.head import Prediction
from domains.manifest import Contract
from domains.medical.layout import stem
from domains.medical.readers import write_mask


def write_prediction(candidate: Candidate, prediction: Prediction, contract: Contract, folder: Path) -> list[Path]:
    """Writes the most likely class of each voxel as `<folder>/<subject>/<image>_prediction.nii.gz`.

    Args:
        candidate: whose first image gives shape and affine.
        prediction: (K, D, H, W) probabilities on the native grid, background first.
        contract: of the model.
        folder: where to write; the subject's own name appears below it, as it does in its source.
    """
    source = candidate.images[contract.rules["channels"][0]]
    below = folder / candidate.name
    below.mkdir(parents=True, exist_ok=True)
    path = below / f"{stem(source)}_prediction.nii.gz"
    write_mask(path, np.asarray(prediction).argmax(0).astype(np.uint8), source)
    return [path]
