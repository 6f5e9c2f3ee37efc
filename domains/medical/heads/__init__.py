"""Heads of the medical domain by name."""

from domains.medical.heads import hippocampus, tumor, tumor_boxes, xray_findings

HEADS = {head.name: head for head in (tumor.HEAD, tumor_boxes.HEAD, hippocampus.HEAD, xray_findings.HEAD)}
