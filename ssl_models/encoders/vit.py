"""One plain vision transformer for images, volumes and clips, with a pyramid of feature maps on top."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_models.encoders.staged import group_norm
from ssl_models.tokens import grid_of, patchify, sincos_positions, take

PLAIN_ATTENTION_TOKENS = 1024


class Block(nn.Module):
    """Attention and a four times wider perceptron, each behind a LayerNorm and around a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, E) -> (B, N, E)."""
        qkv = self.qkv(self.norm_attention(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.transpose(1, 3).unbind(2)
        attended = attention(query, key, value).transpose(1, 2).flatten(2)
        x = x + self.project(attended)
        return x + self.contract(F.gelu(self.expand(self.norm_mlp(x))))


class ViTEncoder(nn.Module):
    """Tokens of `patch_shape` through `depth` blocks; feature maps from the last token map and a convolutional stem.

    Attributes:
        in_channels: channels of the input.
        spatial_axes: 2 for images, 3 for volumes and clips.
        patch_shape: S of one token.
        width: E of the tokens.
        widths: channels of each feature map, fine to coarse; the last is `width`.
        strides: stride of each feature map relative to the input, per axis; the first is all ones, the last the patch.

    Source: Dosovitskiy et al. 2020 (arXiv 2010.11929); pyramid from the last map: Li et al. 2022 (arXiv 2203.16527).
    Differs: no class token (pool the tokens instead); each level of the pyramid is made from the next coarser one, and
        a stem of convolutions adds what a patch has lost.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        crop_shape: tuple[int, ...],
        patch_shape: tuple[int, ...],
        width: int,
        depth: int,
        heads: int,
    ) -> None:
        """An encoder for crops of about `crop_shape`; other sizes divisible by the patch work as well.

        Args:
            in_channels: channels of the input.
            crop_shape: S of a training crop.
            patch_shape: S of one token, one entry per axis, not necessarily equal.
            width: E of the tokens, a multiple of `heads`.
            depth: number of blocks.
            heads: attention heads of a block.

        Raises:
            ValueError: if the patch does not divide the crop or the heads do not divide the width.
        """
        from monai.networks.blocks.dynunet_block import UnetBasicBlock
        from monai.networks.layers.factories import Conv

        super().__init__()
        if width % heads:
            raise ValueError(f"the width {width} is not divisible by {heads} heads")
        self.in_channels, self.spatial_axes, self.width = in_channels, len(patch_shape), width
        self.patch_shape = tuple(patch_shape)
        self.strides = pyramid_strides(self.patch_shape)
        levels = len(self.strides)
        self.widths = (*(max(16, width // 2**i // 16 * 16) for i in reversed(range(1, levels))), width)
        self.embed = nn.Linear(in_channels * torch.Size(patch_shape).numel(), width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.apply(init_linear)
        self._grid = grid_of(tuple(crop_shape), self.patch_shape)
        self.register_buffer("_table", sincos_positions(self._grid, width), persistent=False)
        self.stem, self.up = nn.ModuleList(), nn.ModuleList()
        steps = [tuple(b // a for a, b in zip(fine, coarse, strict=True)) for fine, coarse in pairwise(self.strides)]
        for level in range(levels - 1):
            inputs, outputs = (in_channels, *self.widths)[level], self.widths[level]
            stride = steps[level - 1] if level else (1,) * self.spatial_axes
            self.stem.append(UnetBasicBlock(self.spatial_axes, inputs, outputs, 3, stride, group_norm(outputs)))
            enlarge = Conv[Conv.CONVTRANS, self.spatial_axes]
            self.up.append(enlarge(self.widths[level + 1], outputs, steps[level], steps[level]))

    def positions(self, grid: tuple[int, ...]) -> Tensor:
        """(N, E) fixed positions of a grid of tokens; a table for the training crop's, computed for any other."""
        if grid == self._grid:
            return self.get_buffer("_table")
        return sincos_positions(grid, self.width).to(self.embed.weight.device)

    def tokens(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """(B, C, *S) -> (B, N, E), or (B, K, E) of the K tokens at `keep` (B, K) alone: the others cost nothing.

        Raises:
            ValueError: if a spatial size is not divisible by the patch.
        """
        table = self.positions(grid_of(tuple(x.shape[2:]), self.patch_shape))
        patches = patchify(x, self.patch_shape)
        if keep is not None:
            patches, table = take(patches, keep), table[keep]
        x = self.embed(patches) + table
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps [(B, widths[i], *S / strides[i])], fine to coarse, of crops (B, C, *S)."""
        grid = grid_of(tuple(x.shape[2:]), self.patch_shape)
        details: list[Tensor] = []
        for stem in self.stem:
            details.append(stem(details[-1] if details else x))
        features = [self.tokens(x).transpose(1, 2).unflatten(2, grid)]
        for detail, up in zip(reversed(details), reversed(self.up), strict=True):
            features.insert(0, detail + up(features[0]))
        return features


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(B, heads, N, E / heads) each -> the same shape.

    torch's fused kernel, but for training in bfloat16 on a CPU: its backward there is slower than in float32, and three
    plain operations need a fifth of its time at 128 tokens, half at 512 (forward and backward, AMX). They hold the
    N x N table, so many tokens still take the fused kernel.
    """
    plain = query.dtype == torch.bfloat16 and query.device.type == "cpu" and query.requires_grad
    if plain and query.shape[2] <= PLAIN_ATTENTION_TOKENS:
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)
        return scores.softmax(-1) @ value
    return F.scaled_dot_product_attention(query, key, value)


def pyramid_strides(patch_shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """From all ones to the patch: going down, the axes of greatest stride are divided by their smallest factor.

    (2, 8, 8) -> (1, 1, 1), (2, 2, 2), (2, 4, 4), (2, 8, 8).
    """
    strides = [tuple(patch_shape)]
    while max(strides[0]) > 1:
        greatest = max(strides[0])
        factor = next(n for n in range(2, greatest + 1) if greatest % n == 0)
        strides.insert(0, tuple(s // factor if s == greatest else s for s in strides[0]))
    return tuple(strides)


def init_linear(module: nn.Module) -> None:
    """Xavier weights and zero biases for the linear layers, as the masked autoencoder's authors do."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
