"""The anatomy of a generated head: nested shells, folded cortex, ventricles, and bright things that are no lesion.

Signals are FLAIR-like with white matter at 0.8: fluid and bone dark, fat bright. Points are in mm, axes (S, A, R),
origin in the middle of the volume.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import ndimage

WHITE, GREY, FLUID, BONE, MARROW, FAT, SKIN, MUSCLE = 0.72, 1.0, 0.14, 0.07, 0.35, 1.45, 0.75, 0.5
FAR_MM = 70.0
"""No part of a ventricle lies as far from the middle."""
LATTICE = 32
"""Nodes per axis of a noise lattice; it repeats beyond."""

Noise = Callable[[float], np.ndarray]
"""Pitch in mm -> smooth noise (D, H, W)."""


@dataclass(frozen=True)
class Head:
    """A head before the scanner."""

    image: np.ndarray
    """(D, H, W) float signal."""
    points_mm: np.ndarray
    """(3, D, H, W)."""
    parenchyma: np.ndarray
    """(D, H, W) bool, brain tissue."""
    white: np.ndarray
    depth_mm: np.ndarray
    """(D, H, W) below the brain's surface, about."""


def draw_head(draw: np.random.Generator, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Head:
    """A head of its own size, tilt, asymmetry, folding and ventricles."""
    noise: Noise = partial(smooth_noise, draw, shape, spacing_mm)
    points = _points(draw, shape, spacing_mm)
    size = draw.uniform(0.93, 1.05, 3) * (78, 90, 71)  # up, front-back, sideways: half axes of the scalp
    wave = noise(45.0)
    below = points[0] < 0
    scalp = _depth(points, (np.where(below, 2.2 * size[0], size[0]), size[1], size[2]), wave, 2.0)
    brain = _depth(points, (np.where(below, 0.68 * size[0], size[0] - 10), size[1] - 10, size[2] - 10), wave, 1.6)

    fissures, sulci = _folds(draw, noise, points, brain)
    ventricles = _ventricles(draw, points)
    fluid = (brain < 1.8) | sulci | fissures | (ventricles < 0)
    from_fluid = ndimage.distance_transform_edt(~((brain < 1.8) | sulci | fissures), sampling=spacing_mm)
    cortex = from_fluid < 4.6 + 0.6 * noise(9.0)
    nuclei = _nuclei(points, draw)
    parenchyma = (brain > 0) & ~fluid
    white = parenchyma & ~cortex & ~nuclei

    image = np.where(white, WHITE * (1 + 0.04 * noise(12.0)), GREY)
    image = np.where(nuclei & parenchyma & ~cortex, 0.94, image) * (1 + 0.03 * noise(4.0))
    image = np.where(fluid, FLUID, image)
    image = np.where(brain > 0, image, _outside(noise, points, scalp))
    image = _caps(draw, noise, image, points, ventricles, parenchyma)
    image = _vessels(draw, image, points, (brain > 0) & (brain < 26))
    return Head(image.astype(np.float32), points, parenchyma, white, brain)


def smooth_noise(
    draw: np.random.Generator, shape: tuple[int, ...], spacing_mm: tuple[float, ...], pitch_mm: float
) -> np.ndarray:
    """Smooth noise of mean 0 and deviation about 1 on a grid; `pitch_mm` apart it is independent."""
    nodes = [int(n * s / pitch_mm) + 4 for n, s in zip(shape, spacing_mm, strict=True)]
    found = draw.normal(0, 1.9, nodes).astype(np.float32)
    for axis, (size, spacing) in enumerate(zip(shape, spacing_mm, strict=True)):
        # quadratic B-spline weights of the lattice's nodes for each voxel along this axis
        at = draw.random() + 1 + np.arange(size) * spacing / pitch_mm
        gap = np.abs(at[:, None] - np.arange(nodes[axis]))
        weights = np.where(gap < 0.5, 0.75 - gap**2, np.where(gap < 1.5, 0.5 * (1.5 - gap) ** 2, 0))
        found = np.moveaxis(np.tensordot(weights.astype(np.float32), found, (1, axis)), 0, axis)
    return found


def noise_at(draw: np.random.Generator, points_mm: np.ndarray, pitch_mm: float) -> np.ndarray:
    """The same kind of noise at any (3, ...) points."""
    lattice = draw.normal(0, 1.7, (LATTICE,) * 3).astype(np.float32)
    at = points_mm / pitch_mm + draw.uniform(0, LATTICE, 3).astype(np.float32).reshape(3, 1, 1, 1)
    found: np.ndarray = ndimage.map_coordinates(lattice, at, order=1, mode="grid-wrap")
    return found


def _points(
    draw: np.random.Generator, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> np.ndarray:
    """(3, D, H, W) mm in the head's own frame: turned a little, shifted, one side a little wider."""
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing_mm, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
    shift = np.array([draw.uniform(8, 14), draw.uniform(-4, 4), draw.uniform(-4, 4)], dtype=np.float32)
    grid += shift[:, None, None, None]
    turn, nod = draw.normal(0, 0.06, 2)
    s, a, r = grid
    a, r = a * np.cos(turn) - r * np.sin(turn), a * np.sin(turn) + r * np.cos(turn)
    s, a = s * np.cos(nod) - a * np.sin(nod), s * np.sin(nod) + a * np.cos(nod)
    r = np.where(r > 0, r * draw.uniform(0.96, 1.04), r)
    return np.stack([s, a, r]).astype(np.float32)


def _depth(
    points: np.ndarray, half_axes: tuple[np.ndarray, float, float], wave: np.ndarray, wave_mm: float
) -> np.ndarray:
    """About the depth in mm below an egg-shaped surface (narrower in front), negative outside."""
    up, front, side = half_axes
    s, a, r = points
    narrow = 1 - 0.10 * a / 90
    radius = np.sqrt((s / up) ** 2 + (a / front) ** 2 + (r / (side * narrow)) ** 2)
    return (1 - radius) * 72 + wave_mm * wave


def _folds(
    draw: np.random.Generator, noise: Noise, points: np.ndarray, brain: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fluid between the hemispheres, and in sulci that run inwards from the surface."""
    s, a, r = points
    middle = r - 1.5 * noise(40.0)
    fissures = (np.abs(middle) < 1.6) & (brain < 26) & ((s > -5) | (a > 20))
    sylvian = np.abs(s + 6 - 0.25 * a - 3 * noise(25.0)) < 2.2
    fissures |= sylvian & (brain < 20) & (np.abs(a - 12) < 26) & (np.abs(r) > 26)
    # projected towards the surface the noise hardly changes along the radius, so its zero lines run inwards
    radius = np.maximum(np.linalg.norm(points, axis=0), 12) / 62
    projected = points / radius**0.75
    depth = 17 + 6 * noise(30.0)
    fold = np.abs(noise_at(draw, projected, 15.0) + 0.3 * noise_at(draw, projected, 7.0))
    cerebellum = (s < -24) & (a < -12)
    fine = np.abs(noise(4.5))
    fold = np.where(cerebellum, 1.6 * fine, fold)
    width = 0.21 * np.clip(1 - brain / np.maximum(depth, 4) + 0.5, 0, 1)
    return fissures, (fold < width) & (brain > 0) & (brain < depth)


def _ventricles(draw: np.random.Generator, points: np.ndarray) -> np.ndarray:
    """Signed distance in mm, about, to the lateral and third ventricles; negative inside, at most `FAR_MM`."""
    deep = np.flatnonzero((points**2).sum(0) < FAR_MM**2)
    s, a, r = points.reshape(3, -1)[:, deep]
    scale = draw.uniform(0.8, 1.5)
    distance = np.full(s.shape, FAR_MM, dtype=np.float32)
    for side in (-1, 1):
        width = scale * draw.uniform(0.85, 1.15)
        for t in np.linspace(0, 1, 12):
            front = 33 - 68 * t
            out = 7 + 7 * max(0.0, 0.35 - t) + 26 * max(0.0, t - 0.5) ** 1.3
            high = 9 + 9 * np.sin(np.pi * t) - 12 * max(0.0, t - 0.6)
            ball = (4.6 + 3.4 * np.sin(np.pi * min(1.0, t + 0.15))) * width
            away = np.sqrt((s - high) ** 2 + (a - front) ** 2 + (1.35 * (r - side * out)) ** 2)
            distance = np.minimum(distance, away - ball)
    third = np.sqrt(((s + 2) / 10) ** 2 + ((a + 2) / 13) ** 2 + (r / (1.9 * scale)) ** 2) - 1
    found = np.full(points.shape[1:], FAR_MM, dtype=np.float32)
    found.flat[deep] = np.minimum(distance, 6 * third)
    return found


def _nuclei(points: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Thalamus, putamen and head of the caudate, both sides."""
    s, a, r = points
    found = np.zeros(s.shape, dtype=bool)
    for centre, half in (((2, -10, 12), (9, 13, 8)), ((2, 8, 25), (9, 15, 5)), ((8, 24, 14), (8, 8, 5))):
        up, front, out = centre + draw.normal(0, 0.8, 3)
        away = ((s - up) / half[0]) ** 2 + ((a - front) / half[1]) ** 2 + ((np.abs(r) - out) / half[2]) ** 2
        found |= away < 1
    return found


def _outside(noise: Noise, points: np.ndarray, scalp: np.ndarray) -> np.ndarray:
    """Signal outside the brain: scalp, skull, the base with muscle, sinuses and eyes, air."""
    s, a, r = points
    mottled = noise(7.0)
    thick = 4.2 + 0.8 * noise(30.0)
    base = np.where(mottled > 0.5, FAT * 0.7, np.where(mottled < -0.7, BONE, MUSCLE))
    skull = np.where(np.abs(scalp - thick - 2.9) < 1.1, MARROW, BONE)
    image = np.where((s < -30) & (scalp > thick + 7), base, skull)
    image = np.where(scalp < thick, FAT * (1 + 0.12 * mottled), image)
    image = np.where(scalp < 1.6, SKIN, image)
    sinus = (s < -30) & (a > 52) & (np.abs(r) < 14 + 4 * mottled)
    image = np.where(sinus & (scalp > thick), 0.03, image)
    for side in (-1, 1):
        eye = np.sqrt((s + 38) ** 2 + (a - 62) ** 2 + (r - side * 32) ** 2)
        orbit = (eye < 19) & (scalp > 2)
        image = np.where(orbit, np.where(eye < 11.5, FLUID * 1.3, np.where(eye < 13, MUSCLE, FAT * 0.85)), image)
    return np.where(scalp > 0, image, 0.0)


def _caps(
    draw: np.random.Generator,
    noise: Noise,
    image: np.ndarray,
    points: np.ndarray,
    ventricles: np.ndarray,
    parenchyma: np.ndarray,
) -> np.ndarray:
    """Bright rims at the horns of the ventricles: common with age, and no tumour."""
    strength = draw.uniform(0.15, 0.6)
    reach = draw.uniform(2.0, 5.0)
    horns = 1 / (1 + np.exp(-(np.abs(points[1] + 1) - 24) / 3))
    rim = np.exp(-np.maximum(ventricles, 0) / reach) * horns * (ventricles > 0) * parenchyma
    return image + strength * rim * (1 + 0.4 * noise(8.0))


def _vessels(draw: np.random.Generator, image: np.ndarray, points: np.ndarray, where: np.ndarray) -> np.ndarray:
    """A few short bright tubes near the surface: slow flow, and fat in the folds."""
    candidates = np.flatnonzero(where)
    at, image = points.reshape(3, -1)[:, candidates], image.copy()
    for _ in range(int(draw.integers(3, 8))):
        start = at[:, draw.integers(len(candidates))]
        step = draw.normal(0, 1, 3)
        step *= draw.uniform(4, 12) / np.linalg.norm(step)
        radius, signal = draw.uniform(1.8, 3.2), draw.uniform(1.2, 1.7)
        places = [(start + t * step).astype(np.float32)[:, None] for t in np.linspace(-0.5, 0.5, 4)]
        near = np.minimum.reduce([((at - place) ** 2).sum(0) for place in places])
        image.flat[candidates] += np.exp(-near / radius**2) * (signal - image.flat[candidates])
    return image
