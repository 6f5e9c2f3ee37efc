"""Heads of the driving domain by name."""

from domains.driving.heads import lanes, road_scene

HEADS = {head.name: head for head in (road_scene.HEAD, lanes.HEAD)}
