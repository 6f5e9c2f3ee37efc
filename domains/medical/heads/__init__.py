"""Heads of the medical domain by name."""

from domains.medical.heads import hippocampus, tumor

HEADS = {head.name: head for head in (tumor.HEAD, hippocampus.HEAD)}
