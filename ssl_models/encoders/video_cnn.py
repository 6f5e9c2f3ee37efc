"""Convolutional encoders for clips (T, H, W): the Slow pathway of SlowFast, and X3D, in pytorchvideo's blocks.

Differs, both: GroupNorm for BatchNorm (the same on one rank or many, and with batches of a few clips), a stem that
keeps the full resolution, so that every head and decoder takes the encoder, and the strides of the data's plan.
"""

from __future__ import annotations

import warnings
from functools import partial

from torch import nn

from ssl_models.encoders.staged import StagedEncoder, group_norm, steps_of

# pytorchvideo scripts some of its layers while it is imported, and torch has something to say about each.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    from pytorchvideo.models.resnet import create_bottleneck_block, create_res_stage
    from pytorchvideo.models.stem import create_res_basic_stem
    from pytorchvideo.models.x3d import create_x3d_res_stage, create_x3d_stem

LEAST_INNER = 16
"""Channels of a bottleneck, at least: a full group of the norm."""


def clip_norm(num_features: int, eps: float = 1e-5, momentum: float = 0.0) -> nn.GroupNorm:
    """The house's GroupNorm, called as pytorchvideo calls a BatchNorm; there is no momentum."""
    return nn.GroupNorm(group_norm(num_features)[1]["num_groups"], num_features, eps)


class SlowEncoder(StagedEncoder):
    """Residual bottlenecks over (1, 3, 3), with kernels along time in the coarser half of the stages only.

    Source: Feichtenhofer et al. 2018 (arXiv 1812.03982), the Slow pathway; blocks of pytorchvideo 0.1.5.
    Differs: see above; a stage that halves the frames looks at three of them, wherever it stands; the stem's kernel is
        (1, 3, 3) and has no pooling behind it.
    """

    def __init__(
        self, *, in_channels: int, widths: tuple[int, ...], pooling: tuple[tuple[int, ...], ...], blocks: int
    ) -> None:
        """Stages of `widths[i]` channels, each `pooling[i]` (T, H, W) times coarser than the one before.

        Args:
            in_channels: channels of the input.
            widths: channels of each stage; the first is the stem.
            pooling: stride of each stage relative to the stage before; the first stage's are all ones.
            blocks: of a stage after the stem.

        Raises:
            ValueError: if the lengths differ or the first stage is not at full resolution.
        """
        (_, width, _), *coarser = steps_of(in_channels, widths, pooling)
        stages = [
            create_res_basic_stem(
                in_channels=in_channels, out_channels=width, conv_kernel_size=(1, 3, 3), conv_stride=(1, 1, 1),
                conv_padding=(0, 1, 1), pool=None, norm=clip_norm,
            )
        ]  # fmt: skip
        for index, (inputs, width, (time, *plane)) in enumerate(coarser):
            frames = 3 if time > 1 or index >= len(coarser) // 2 else 1
            stage = create_res_stage(
                depth=blocks, dim_in=inputs, dim_inner=max(LEAST_INNER, width // 4), dim_out=width,
                bottleneck=create_bottleneck_block, conv_a_kernel_size=(frames, 1, 1), conv_a_stride=(time, 1, 1),
                conv_a_padding=(frames // 2, 0, 0), conv_b_stride=(1, *plane), norm=clip_norm,
            )  # fmt: skip
            stages.append(stage)
        super().__init__(stages, in_channels=in_channels, widths=widths, pooling=pooling)


class X3DEncoder(StagedEncoder):
    """Inverted bottlenecks with depth-wise (3, 3, 3) convolutions and squeeze-and-excitation in every other block.

    Source: Feichtenhofer 2020 (arXiv 2004.04730); blocks of pytorchvideo 0.1.5.
    Differs: see above; the inner width is 2.25 times the outer one rounded down to full groups of the norm.
    """

    def __init__(
        self, *, in_channels: int, widths: tuple[int, ...], pooling: tuple[tuple[int, ...], ...], blocks: int
    ) -> None:
        """Stages of `widths[i]` channels, each `pooling[i]` (T, H, W) times coarser than the one before.

        Args:
            in_channels: channels of the input.
            widths: channels of each stage; the first is the stem.
            pooling: stride of each stage relative to the stage before; the first stage's are all ones.
            blocks: of a stage after the stem.

        Raises:
            ValueError: if the lengths differ or the first stage is not at full resolution.
        """
        (_, width, _), *coarser = steps_of(in_channels, widths, pooling)
        stages = [
            create_x3d_stem(in_channels=in_channels, out_channels=width, conv_stride=(1, 1, 1), norm=clip_norm),
        ]
        # SiLU is the Swish that pytorchvideo spells out as a function of its own.
        stage = partial(create_x3d_res_stage, depth=blocks, norm=clip_norm, inner_act=nn.SiLU)
        for inputs, width, step in coarser:
            inner = max(LEAST_INNER, int(2.25 * width) // LEAST_INNER * LEAST_INNER)
            stages.append(stage(dim_in=inputs, dim_inner=inner, dim_out=width, conv_stride=step))
        super().__init__(stages, in_channels=in_channels, widths=widths, pooling=pooling)
