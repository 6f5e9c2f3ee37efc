"""A guess at a lesion from what is known about lesions: bright, on one side of the brain only, and compact.

A proposal has learned nothing, is wrong for about every third patient, and is not what is reported as the trivial
competitor: it is what the objective `proposals` teaches a network. With zero labels that network is as good as the rule
(docs/benchmarks.md); what it adds is a start for fine-tuning.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from domains.head import Prediction
from domains.manifest import Contract
from domains.medical.entries import Entry, open_entry
from domains.medical.metrics import components
from domains.medical.trivial import as_first_class, depth_mm

# The form of the score and these settings were chosen by the mean Dice on the 55 labelled development patients of
# brain_mri_lgg (0.62 for this one of 264 combinations; 0.58 to 0.62 for all that count asymmetry and compactness):
# a result with zero labels that uses them has seen 55 labels in this sense, and must say so.
SMOOTHING_MM = 4.0
SKULL_MM = 16.0
DEVIATIONS = (1.0, 1.5, 2.0, 2.5, 3.0)
"""Thresholds above the median, in robust standard deviations; the blobs of all of them compete."""
MOST_BLOBS = 4
"""The largest of each threshold."""
MIRROR_BLUR_VOXELS = 2.0
"""Blur of the mirrored image within slices, since no head is mirrored onto itself exactly."""


def asymmetric_blob(folder: Path, contract: Contract) -> Prediction:
    """The blob with the highest sqrt(voxels) * asymmetry * compactness^2, of smoothed images at several thresholds.

    Asymmetry is the blob's mean excess over the mirrored side, in robust deviations (0 if negative); compactness is
    the share of its voxels that survive an erosion within slices.

    Returns:
        (K, D, H, W) float32 on the native grid, zeros and ones before resampling; all background where nothing fits,
        of several classes only the first.
    """
    entry = open_entry(folder)
    return as_first_class(_best_blob(entry), entry, contract)


def _best_blob(entry: Entry) -> np.ndarray:
    spacing, head = np.array(entry.spacing_mm), entry.read_foreground()
    smooth = ndimage.gaussian_filter(entry.read()[0], SMOOTHING_MM / spacing)
    inside = depth_mm(head, spacing) > SKULL_MM
    best, best_score = np.zeros(head.shape, dtype=bool), 0.0
    if not inside.any():
        return best
    median = np.median(smooth[inside])
    spread = 1.4826 * np.median(np.abs(smooth[inside] - median))
    if spread == 0:
        return best
    deviation = (smooth - median) / spread
    asymmetry = deviation - _mirrored(deviation, head)
    for threshold in DEVIATIONS:
        labelled, _ = components(inside & (deviation > threshold))
        sizes = np.bincount(labelled.ravel())
        sizes[0] = 0
        for blob in np.argsort(sizes)[::-1][:MOST_BLOBS]:
            if sizes[blob] == 0:
                break
            mask = labelled == blob
            compactness = ndimage.binary_erosion(mask, np.ones((1, 3, 3))).sum() / sizes[blob]
            score = sizes[blob] ** 0.5 * max(float(asymmetry[mask].mean()), 0.0) * compactness**2
            if score > best_score:
                best, best_score = mask, score
    return best


def _mirrored(image: np.ndarray, head: np.ndarray) -> np.ndarray:
    """The image blurred and mirrored left-right about the middle of the head."""
    columns = np.flatnonzero(head.any(axis=(0, 1)))
    opposite = (columns[0] + columns[-1] - np.arange(head.shape[2])).clip(0, head.shape[2] - 1)
    blurred: np.ndarray = ndimage.gaussian_filter(image, (0, MIRROR_BLUR_VOXELS, MIRROR_BLUR_VOXELS))
    return blurred[:, :, opposite]
