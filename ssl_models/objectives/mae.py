"""Masked autoencoder: hide most of a crop and reconstruct it, on tokens or on blocks of voxels."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from ssl_models.decoders.segmentation import SegmentationDecoder
from ssl_models.encoders.vit import Block, ViTEncoder, init_linear
from ssl_models.protocols import Batch, Encoder, Losses, Needs, pooled
from ssl_models.tokens import (
    Split,
    block_mask,
    crop_seeds,
    grid_of,
    patchify,
    sincos_positions,
    split_tokens,
    take,
    tubes,
    unpatchify,
)


class MaskedAutoencoder(nn.Module):
    """Mean squared error on the hidden tokens, averaged over a sample's targets, then over samples.

    A transformer sees the visible tokens only, and a light transformer fills in the others. A convolutional encoder
    sees the crop with hidden blocks set to zero, and a U-Net decoder paints the crop. In a recording the same places
    are hidden in every frame, for what stands still could otherwise be copied from the frame before.

    Source: He et al. 2021 (arXiv 2111.06377); over convolutions and volumes Wald et al. 2024 (arXiv 2410.23132);
        recordings Tong et al. 2022 (arXiv 2203.12602).
    Differs: no class token; masks come from sample seeds; the mask may be drawn over the foreground, where its ratio
        holds among the tokens that contain any (see `tokens.split_tokens`); a missing channel is no target.
    """

    needs = Needs()
    decoder = None

    def __init__(
        self,
        encoder: Encoder,
        *,
        mask_ratio: float = 0.75,
        normalise_targets: bool | None = None,
        foreground_only: bool = False,
        tube: bool | None = None,
        block_voxels: int = 16,
        decoder_width: int = 96,
        decoder_depth: int = 2,
    ) -> None:
        """A masked autoencoder around `encoder`.

        Args:
            encoder: a `ViTEncoder`, or any convolutional encoder.
            mask_ratio: hidden fraction, between 0 and 1.
            normalise_targets: whether each token's voxels are standardised first (mean and unbiased variance of the
                token); by default only for a transformer.
            foreground_only: whether the mask is drawn over `batch.foreground`.
            tube: whether the tokens of one place are hidden in all frames or in none (the first axis of S is time);
                by default in recordings. A place then counts as foreground if any of its tokens does.
            block_voxels: edge of a block hidden from a convolutional encoder, along the axes of its greatest stride;
                about what its finer levels see at once. A transformer hides its tokens.
            decoder_width: E of the transformer that fills in tokens.
            decoder_depth: its number of blocks.

        Raises:
            ValueError: if the ratio is not between 0 and 1, or `tube` is set for an encoder of images.
        """
        super().__init__()
        if not 0 < mask_ratio < 1:
            raise ValueError(f"mask_ratio is {mask_ratio}, but must lie between 0 and 1")
        if tube and encoder.spatial_axes < 3:
            raise ValueError("mae: tube is set, but images have no axis of time")
        self.encoder = encoder
        self.mask_ratio, self.foreground_only, self.tube = mask_ratio, foreground_only, tube
        self.normalise_targets = isinstance(encoder, ViTEncoder) if normalise_targets is None else normalise_targets
        self.filler: Filler = (
            TokenFiller(encoder, decoder_width, decoder_depth)
            if isinstance(encoder, ViTEncoder)
            else BlockFiller(encoder, block_voxels)
        )

    def forward(self, batch: Batch) -> Losses:
        """The loss of one batch.

        Raises:
            ValueError: if `foreground_only` is set and the batch has no foreground.
        """
        crops = batch.crops.flatten(0, 1)
        token_shape, split = self._split(batch)
        predicted, embedding = self.filler(self.encoder, crops, split)
        target = take(patchify(crops, token_shape), split.rest)
        if self.normalise_targets:
            mean, deviation = _statistics(target, _present(batch))
            target = (target - mean) / deviation
        loss = _mean_error(predicted.float(), target, split.is_target, batch)
        embedding = embedding.detach().float().unflatten(0, batch.crops.shape[:2])[:, 0]
        return Losses(total=loss, parts={"reconstruction": loss.detach()}, embedding=embedding)

    @torch.no_grad()
    def examples(self, batch: Batch) -> dict[str, Tensor]:
        """Panels (B, 1, *S) of the middle channel of each first crop: original, masked, reconstructed."""
        batch = first_crop(batch)
        crops = batch.crops[:, 0]
        token_shape, split = self._split(batch)
        predicted, _ = self.filler(self.encoder, crops, split)
        tokens = patchify(crops, token_shape)
        target = take(tokens, split.rest)
        if self.normalise_targets:
            mean, deviation = _statistics(target, _present(batch))
            predicted = predicted * deviation + mean
        shown = torch.where(split.is_target.unsqueeze(2), predicted.float(), target)
        filled = tokens.scatter(1, split.rest.unsqueeze(2).expand_as(shown), shown)
        hidden = block_mask(split.rest, token_shape, tuple(crops.shape[2:]))
        middle = batch.shown_channel
        panels = {
            "original": crops,
            "masked": crops.masked_fill(hidden, 0),
            "reconstructed": unpatchify(filled, token_shape, tuple(crops.shape[2:])),
        }
        return {name: panel[:, middle : middle + 1] for name, panel in panels.items()}

    def _split(self, batch: Batch) -> tuple[tuple[int, ...], Split]:
        token_shape = self.filler.token_shape(tuple(batch.crops.shape[3:]))
        foreground = None
        if self.foreground_only:
            if batch.foreground is None:
                raise ValueError("mae: foreground_only is set, but the batch has no foreground")
            foreground = patchify(batch.foreground.flatten(0, 1), token_shape).any(2)
        frames, *plane = grid_of(tuple(batch.crops.shape[3:]), token_shape)
        tokens = math.prod(plane)
        seeds = crop_seeds(batch.sample_seed, batch.crops.shape[1])
        if not (batch.time_axis if self.tube is None else self.tube):
            return token_shape, split_tokens(seeds, frames * tokens, self.mask_ratio, foreground)
        if foreground is not None:
            foreground = foreground.unflatten(1, (frames, tokens)).any(1)
        return token_shape, tubes(split_tokens(seeds, tokens, self.mask_ratio, foreground), frames, tokens)


class Filler(Protocol):
    """How an encoder sees a masked crop and what fills it in."""

    def token_shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """S of one token of a crop of this size."""

    def __call__(self, encoder: Encoder, crops: Tensor, split: Split) -> tuple[Tensor, Tensor]:
        """(B, C, *S) -> voxels of the tokens of `split.rest` (B, R, C * prod(token_shape)), pooled features (B, E)."""


class TokenFiller(nn.Module):
    """Blocks of a transformer over seen and hidden tokens; the latter are one learned token plus their positions."""

    def __init__(self, encoder: ViTEncoder, width: int, depth: int) -> None:
        super().__init__()
        self.patch_shape, self.width = encoder.patch_shape, width
        heads = max(1, width // 32)
        self.embed = nn.Linear(encoder.width, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.predict = nn.Linear(width, encoder.embed.in_features)
        self.apply(init_linear)
        self.hidden = nn.Parameter(torch.randn(width) * 0.02)
        self._tables: dict[tuple[int, ...], Tensor] = {}

    def token_shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return self.patch_shape

    def forward(self, encoder: ViTEncoder, crops: Tensor, split: Split) -> tuple[Tensor, Tensor]:
        seen = encoder.tokens(crops, split.seen)
        table = self._positions(grid_of(tuple(crops.shape[2:]), self.patch_shape), crops.device)
        # Attention does not mind the order, so the tokens stay as `split` has them: seen first, then the rest.
        x = torch.cat([self.embed(seen) + table[split.seen], self.hidden + table[split.rest]], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.predict(self.norm(x[:, split.seen.shape[1] :])), seen.mean(1)

    def _positions(self, grid: tuple[int, ...], device: torch.device) -> Tensor:
        if grid not in self._tables:
            self._tables[grid] = sincos_positions(grid, self.width)
        self._tables[grid] = self._tables[grid].to(device)
        return self._tables[grid]


class BlockFiller(nn.Module):
    """A U-Net decoder over the features of a crop whose hidden blocks are zero."""

    def __init__(self, encoder: Encoder, block_voxels: int) -> None:
        super().__init__()
        self.stride, self.block_voxels = encoder.strides[-1], block_voxels
        self.paint = SegmentationDecoder(
            widths=encoder.widths, strides=encoder.strides, out_channels=encoder.in_channels
        )

    def token_shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """`block_voxels` along the axes of the greatest stride, in proportion along the others.

        Where that does not divide the crop, or leaves a single block, the next smaller size that does is taken.
        """
        shape = []
        for length, stride in zip(size, self.stride, strict=True):
            wanted = round(self.block_voxels * stride / max(self.stride))
            most = max(1, min(wanted, length // 2))
            shape.append(next(n for n in range(most, 0, -1) if length % n == 0))
        return tuple(shape)

    def forward(self, encoder: Encoder, crops: Tensor, split: Split) -> tuple[Tensor, Tensor]:
        size = tuple(crops.shape[2:])
        block_shape = self.token_shape(size)
        features = encoder(crops.masked_fill(block_mask(split.rest, block_shape, size), 0))
        return take(patchify(self.paint(features), block_shape), split.rest), pooled(features)


def first_crop(batch: Batch) -> Batch:
    """The batch with the first crop of each subject only."""
    foreground = None if batch.foreground is None else batch.foreground[:, :1]
    return replace(batch, crops=batch.crops[:, :1], foreground=foreground)


def _present(batch: Batch) -> Tensor | None:
    """(B * V, C) bool of the crops, or None where every channel is there."""
    present = batch.channels_present
    return None if present is None else present.repeat_interleave(batch.crops.shape[1], 0)


def _statistics(target: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and deviation (unbiased, 1e-6 below the root) of each token's voxels in the channels that are there.

    `torch.var_mean` is 5 times slower.
    """
    if present is None:
        mean = target.mean(-1, keepdim=True)
        variance = (target - mean).square().sum(-1, keepdim=True) / (target.shape[-1] - 1)
    else:
        there = present.repeat_interleave(target.shape[-1] // present.shape[1], 1).unsqueeze(1)
        count = there.sum(-1, keepdim=True).clamp_min(2)
        mean = (target * there).sum(-1, keepdim=True) / count
        variance = ((target - mean) * there).square().sum(-1, keepdim=True) / (count - 1)
    return mean, (variance + 1e-6).sqrt()


def _mean_error(predicted: Tensor, target: Tensor, is_target: Tensor, batch: Batch) -> Tensor:
    """Squared error over a sample's target tokens and present channels, averaged; then averaged over samples."""
    channels = batch.crops.shape[2]
    error = (predicted - target).square().unflatten(2, (channels, -1)).mean(3)
    weight = is_target.unsqueeze(2).expand(-1, -1, channels).float()
    if (present := _present(batch)) is not None:
        weight = weight * present.unsqueeze(1)
    return ((error * weight).sum((1, 2)) / weight.sum((1, 2)).clamp_min(1)).mean()


OBJECTIVE = MaskedAutoencoder
