"""Tensors in, tensors out: encoders, decoders, pretext objectives and their parts."""
