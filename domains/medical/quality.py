"""Is this a usable volume? Verdicts with reasons, and quality figures as facts for the report."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from domains.errors import Refused
from domains.medical.readers import Volume
from domains.medical.space import Space

SPACING_MM = (0.05, 50.0)
MIN_SLICES = 4
MIN_PIXELS = 16
MIN_FOREGROUND = 0.01


def check_header(header: Space) -> None:
    """Raises Refused when the geometry alone rules a file out."""
    if min(header.spacing_mm) < SPACING_MM[0] or max(header.spacing_mm) > SPACING_MM[1]:
        text = " x ".join(f"{s:.3g}" for s in header.spacing_mm)
        raise Refused(f"absurd spacing {text} mm (allowed {SPACING_MM[0]} to {SPACING_MM[1]:.0f})")
    if min(header.shape) < MIN_SLICES or sorted(header.shape)[1] < MIN_PIXELS:
        text = " x ".join(map(str, header.shape))
        raise Refused(f"too small: {text} voxels (at least {MIN_SLICES} slices of {MIN_PIXELS} x {MIN_PIXELS})")


def check_channel(volume: Volume) -> np.ndarray:
    """The foreground (D, H, W) bool of a (1, D, H, W) volume that is fit for use.

    Raises:
        Refused: NaN or infinite values, constant, or nearly nothing in it.
    """
    image = volume.data[0]
    broken = 1 - np.isfinite(image).mean()
    if broken > 0:
        raise Refused(f"NaN or infinite values in {broken:.2%} of the voxels")
    if image.min() == image.max():
        raise Refused(f"constant: every voxel is {image.flat[0]:g}")
    found = foreground(image)
    if found.mean() < MIN_FOREGROUND:
        raise Refused(f"nearly empty: {found.mean():.2%} of the voxels stand out from the background")
    return found


def foreground(image: np.ndarray) -> np.ndarray:
    """(D, H, W) -> bool, where the head is: above a threshold after smoothing, the largest part, holes filled.

    The threshold is half of Otsu's (on values cut at their 99th percentile): in a whole head it lies between air and
    tissue, in a crop without any air it leaves out only the darkest fluid.
    """
    low, high = np.percentile(image, [0.5, 99])
    if high <= low:
        low, high = float(image.min()), float(image.max())
    smooth = ndimage.gaussian_filter(np.clip((image - low) / (high - low), 0, 1), 1.0)
    inside = smooth > 0.5 * otsu(smooth)
    parts, count = ndimage.label(inside)
    if count > 1:
        inside = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    return _filled(inside)


def _filled(inside: np.ndarray) -> np.ndarray:
    """Holes of each slice filled: what is not inside and has no way to the slice's edge within the slice."""
    in_plane = ndimage.generate_binary_structure(3, 1)
    in_plane[[0, 2]] = False
    parts, count = ndimage.label(~inside, in_plane)
    outside = np.zeros(count + 1, dtype=bool)
    for edge in (parts[:, 0], parts[:, -1], parts[:, :, 0], parts[:, :, -1]):
        outside[edge.ravel()] = True
    outside[0] = False
    return ~outside[parts]


def otsu(values: np.ndarray) -> float:
    """The threshold that parts values in 0..1 into two classes with the largest variance between them.

    Source: N. Otsu 1979, doi:10.1109/TSMC.1979.4310076.
    """
    counts, edges = np.histogram(values, 128, (0, 1))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(centres[int(np.nanargmax(between))])


def figures(image: np.ndarray, inside: np.ndarray) -> dict[str, Any]:
    """Quality of one channel, as JSON: percentiles and share of clipped voxels in the head, contrast against noise.

    `snr` is the head's median above the background's, over the robust deviation of the background; None where the
    background was masked away. A comparison within one archive, not a scanner's SNR.
    """
    head, air = image[inside], image[~inside]
    level = float(np.median(air)) if air.size > 100 else 0.0
    noise = 1.4826 * float(np.median(np.abs(air - level))) if air.size > 100 else 0.0
    low, middle, high = (float(v) for v in np.percentile(head, [1, 50, 99]))
    return {
        "p1": low,
        "p50": middle,
        "p99": high,
        "clipped_share": round(float((head == image.max()).mean()), 5),
        "snr": round((middle - level) / noise, 2) if noise > 0 else None,
    }
