"""Decoders: feature maps in, dense predictions out."""
