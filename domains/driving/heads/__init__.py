"""Heads of the driving domain by name."""

from domains.driving.heads import lanes, obstacles, road_scene
from domains.driving.shapes import Targets

HEADS = {head.name: head for head in (road_scene.HEAD, lanes.HEAD, obstacles.HEAD)}

TARGETS: dict[str, Targets] = {"lanes": lanes.targets, "obstacles": obstacles.targets}
"""Head whose labels are shapes -> what its loss takes for a crop of a frame; the other heads learn from masks."""
