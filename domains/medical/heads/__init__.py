"""Heads of the medical domain by name."""

from domains.medical.heads import hippocampus, tumor, xray_findings

HEADS = {head.name: head for head in (tumor.HEAD, hippocampus.HEAD, xray_findings.HEAD)}
