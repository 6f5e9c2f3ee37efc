"""Generated heads: FLAIR-like volumes in NIfTI with exactly known lesions, and things a threshold falls for.

One folder per patient with `flair.nii.gz` and `mask.nii.gz`, from two scanners (spacing, orientation, gain, noise and
shading differ). A quarter of the patients has no lesion. The anatomy itself is in `phantom.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.special import expit

from domains.medical.phantom import Head, draw_head, smooth_noise

LESION_RADIUS_MM = (7.0, 20.0)
"""Of a ball with the lesion's volume."""
HEALTHY_SHARE = 0.25


@dataclass(frozen=True)
class Scanner:
    """What one scanner does to every head."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    axes: str
    gain: float
    noise: float
    """Of white matter."""
    shading: float
    """Largest exponent of the bias field."""


SCANNERS = (
    Scanner((24, 96, 96), (5.5, 2.15, 2.15), "RAS", 420.0, 0.025, 0.15),
    Scanner((30, 104, 104), (4.5, 1.95, 1.95), "LPS", 2900.0, 0.045, 0.35),
)


@dataclass(frozen=True)
class Generated:
    """One patient. Axes (S, A, R), like the canonical grid."""

    flair: np.ndarray
    """(D, H, W) int16."""
    mask: np.ndarray
    """(D, H, W) uint8."""
    scanner: Scanner
    lesions_mm3: tuple[float, ...]
    """Volume asked of each lesion; the mask has it to within a voxel where lesions do not touch."""


def generate(folder: Path, subjects: int, seed: int) -> None:
    """Writes patients `case_000`, `case_001`, ... and a dataset.yaml below `folder`; the same for the same seed."""
    for index in range(subjects):
        patient = folder / f"case_{index:03d}"
        patient.mkdir(parents=True, exist_ok=True)
        made = draw_patient(index, seed)
        _save(patient / "flair.nii.gz", made.flair, made.scanner)
        _save(patient / "mask.nii.gz", made.mask, made.scanner)
    text = f"namespace: heads-{seed}\nlicence: generated\norigin: selfsight, no patient behind it\nspacing: real\n"
    (folder / "dataset.yaml").write_text(text)


def draw_patient(index: int, seed: int) -> Generated:
    """The patient of that number: a pure function of (seed, index)."""
    draw = np.random.Generator(np.random.PCG64([seed, index]))
    scanner = SCANNERS[int(draw.integers(len(SCANNERS)))]
    head = draw_head(draw, scanner.shape, scanner.spacing_mm)
    image, mask, volumes = head.image, np.zeros(scanner.shape, dtype=bool), []
    if draw.random() >= HEALTHY_SHARE:
        for _ in range(1 + int(draw.random() < 0.2)):
            image, lesion, volume = _with_lesion(draw, image, head, mask, scanner.spacing_mm)
            mask |= lesion
            volumes.append(volume)
    return Generated(_scanned(draw, image, scanner), mask.astype(np.uint8), scanner, tuple(volumes))


def _with_lesion(
    draw: np.random.Generator, image: np.ndarray, head: Head, taken: np.ndarray, spacing_mm: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray, float]:
    """The image with one more bright, soft-edged, irregular blob in white matter; its mask; its volume in mm3."""
    radius = draw.uniform(*LESION_RADIUS_MM)
    volume = 4 / 3 * np.pi * radius**3
    allowed = head.parenchyma & ~taken
    deep = np.flatnonzero(head.white & (head.depth_mm > 0.8 * radius) & allowed)
    centre = head.points_mm.reshape(3, -1)[:, deep[draw.integers(len(deep))]]
    away = np.linalg.norm(head.points_mm - centre[:, None, None, None], axis=0)
    noise = partial(smooth_noise, draw, image.shape, spacing_mm)
    wobble = noise(0.9 * radius) + 0.5 * noise(5.0)
    inside = 1 - away / radius + 0.22 * wobble
    # the level at which exactly the wanted volume lies inside: the size in mm is known, whatever the shape
    count = max(1, round(volume / float(np.prod(spacing_mm))))
    level = np.partition(inside[allowed], -count)[-count]
    share = np.where(allowed, expit((inside - level) * radius / 1.2), 0)
    texture = 1 + 0.10 * noise(6.0)
    signal = draw.uniform(1.1, 1.5) * texture
    if draw.random() < 0.3:  # a dark, cystic core
        core = expit((inside - level - 0.55) * radius / 1.2)
        signal = signal * (1 - core) + 0.45 * core
    return image + share * (signal - image), (inside >= level) & allowed, volume


def _scanned(draw: np.random.Generator, image: np.ndarray, scanner: Scanner) -> np.ndarray:
    """int16 image as the scanner gives it: blurred in plane, shaded, noisy (Rician), scaled."""
    blurred = ndimage.gaussian_filter(image, (0.2, 0.45, 0.45))
    d, h, w = np.meshgrid(*(np.linspace(-1, 1, n) for n in image.shape), indexing="ij", sparse=True)
    a = draw.uniform(-1, 1, 6)
    bias = a[0] * d + a[1] * h + a[2] * w + a[3] * h * w + a[4] * h**2 + a[5] * w**2
    shaded = blurred * np.exp(scanner.shading * bias / np.abs(bias).max())
    real, imaginary = draw.normal(0, scanner.noise, (2, *image.shape))
    gain = scanner.gain * draw.uniform(0.7, 1.4)
    return np.round(np.hypot(shaded + real, imaginary) * gain).clip(0, 32767).astype(np.int16)


def _save(path: Path, array: np.ndarray, scanner: Scanner) -> None:
    """(S, A, R) array -> NIfTI in the scanner's axes with real spacing, the world's origin in the head's middle."""
    d, h, w = scanner.spacing_mm
    affine = np.diag([w, h, d, 1.0])
    affine[:3, 3] = -0.5 * (np.array(array.shape[::-1]) - 1) * (w, h, d)
    image = nib.Nifti1Image(array.transpose(2, 1, 0), affine)
    to = nib.orientations.axcodes2ornt(tuple(scanner.axes))
    image = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(affine), to))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
