"""A generated archive with lesions of two parts, labelled as BraTS does: 1 and 4 the core, 2 the edema around it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from domains.medical.generate import generate
from domains.medical.recipes import RECIPES

CORE_SHARE = 0.5
"""Depth at which the core begins, as a share of the lesion's greatest."""
RECIPE = RECIPES["brain_tumor"].changed({"data.label_classes": "[core, edema]", "data.max_crop": "96"})


def write_archive(folder: Path, subjects: int, seed: int = 3) -> None:
    """Patients of `generate` whose lesions have a dark core; a t1 beside the odd ones, where the core is bright."""
    generate(folder, subjects, seed)
    for number, patient in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
        flair, mask = nib.load(patient / "flair.nii.gz"), nib.load(patient / "mask.nii.gz")
        image, lesion = np.asarray(flair.dataobj), np.asarray(mask.dataobj) > 0
        depth = ndimage.distance_transform_edt(lesion, sampling=mask.header.get_zooms())
        core = lesion & (depth > CORE_SHARE * depth.max())
        label = np.where(core, np.where(depth > 0.8 * depth.max(), 4, 1), np.where(lesion, 2, 0)).astype(np.uint8)
        _save(patient / "mask.nii.gz", label, mask)
        _save(patient / "flair.nii.gz", np.where(core, image // 3, image), flair)
        if number % 2:
            _save(patient / "t1.nii.gz", np.where(core, image * 2, image // 2), flair)
    with open(folder / "dataset.yaml", "a") as file:
        file.write("classes: {core: [1, 4], edema: 2}\n")


def _save(path: Path, array: np.ndarray, like: nib.Nifti1Image) -> None:
    nib.save(nib.Nifti1Image(array.astype(like.get_data_dtype()), like.affine, like.header), path)
