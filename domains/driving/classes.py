"""What the heads tell apart: names and colours of their classes, and the value that counts as unlabelled."""

from __future__ import annotations

VOID = 255
"""Of a stored label: not labelled; no loss and no metric looks at it."""

ROAD_COLOURS = {
    "Sky": (128, 128, 128),
    "Building": (128, 0, 0),
    "Pole": (192, 192, 128),
    "Road": (128, 64, 128),
    "Pavement": (0, 0, 192),
    "Tree": (128, 128, 0),
    "SignSymbol": (192, 128, 128),
    "Fence": (64, 64, 128),
    "Car": (64, 0, 128),
    "Pedestrian": (64, 64, 0),
    "Bicyclist": (0, 128, 192),
}
"""The 11 classes of CamVid (Brostow et al. 2009, doi:10.1016/j.patrec.2008.04.005) and their colours there."""
LANE_COLOURS = ((255, 120, 0), (255, 210, 0), (0, 255, 120), (0, 200, 255), (150, 120, 255), (255, 90, 200))
"""Of the slots from left to right; the own lane lies between the third and the fourth."""

ROAD_CLASSES = tuple(ROAD_COLOURS)
CLASSES: dict[str, tuple[str, ...]] = {"road_scene": ROAD_CLASSES, "lanes": ("lane",)}
"""Head -> names of its label values, or kinds of shapes, 0, 1, ..."""

OBSTACLE_COLOURS = {"vehicle": (255, 196, 0), "pedestrian": (255, 64, 96), "cyclist": (0, 190, 255)}
OBSTACLES = tuple(OBSTACLE_COLOURS)
"""Classes of boxes; a recipe may name others, which take these colours in turn."""
