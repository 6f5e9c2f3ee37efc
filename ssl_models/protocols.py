"""Batch, Encoder, Objective, Decoder, and the axis legend everything else agrees on.

Axis legend: B subjects, V crops of a subject, C channels, *S spatial axes - (H, W) for images, (D, H, W) for
volumes, (T, H, W) for clips - N tokens, E embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """V crops of B subjects with what is known about them.

    Every random draw of an objective, an augmentation or a painter comes from `sample_seed`, so that a result does
    not depend on rank, worker or resume.
    """

    crops: Tensor
    """(B, V, C, *S) float32, in the units of the preprocessing contract; the V crops of a subject are augmented each by
    itself."""
    sample_seed: Tensor
    """(B,) int64 in [0, 2**62)."""
    group_id: tuple[str, ...]
    """B keyed ids of the patient or drive."""
    spacing_mm: Tensor | None = None
    """(B, len(S)) float32, the size of a crop's pixel or voxel along each axis of S."""
    seconds: Tensor | None = None
    """(B, V, T) float64, seconds from the recording's first frame."""
    foreground: Tensor | None = None
    """(B, V, 1, *S) bool, where the subject is (not air, not padding)."""
    channels_present: Tensor | None = None
    """(B, C) bool, False where an input channel is missing: it is zero, and nobody's target. None: all are there."""
    actions: Tensor | None = None
    """(B, V, T, A) float32, ego-motion; nan where it is not known."""
    proposals: Tensor | None = None
    """(B, V, 1, *S) int64 classes that a rule of the domain guesses, without labels."""
    targets: Tensor | None = None
    """(B * V, 1, *S) int64 labels of a head, or whatever its loss takes; None in pretraining, which never looks at a
    label."""

    @property
    def time_axis(self) -> bool:
        """Whether the first axis of S is time: recordings cut to clips, not to single frames."""
        return self.seconds is not None and self.crops.ndim == 6

    @property
    def shown_channel(self) -> int:
        """Of a picture: the middle one of the channels that every subject has, or of all where they share none."""
        count = self.crops.shape[2]
        shared = [] if self.channels_present is None else self.channels_present.all(0).nonzero().flatten().tolist()
        return shared[len(shared) // 2] if shared else count // 2

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with every tensor on `device`."""
        moved: dict[str, Any] = {
            f.name: value.to(device, non_blocking=True)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **moved)

    def __len__(self) -> int:
        return self.crops.shape[0]


@dataclass(frozen=True)
class Losses:
    """What an objective or a head gives back for one batch."""

    total: Tensor
    """() the loss that is minimised."""
    parts: dict[str, Tensor] = field(default_factory=dict)
    """Named scalars for the journal, detached."""
    embedding: Tensor | None = None
    """(B, E) pooled features for the collapse figures of `health.py`, detached."""


@dataclass(frozen=True)
class Needs:
    """What an objective asks of the data; where a domain cannot give it, the objective is refused before any work."""

    crops: int = 1
    """V of a batch: how many crops of the same place of a subject, in a recording of places near in time."""
    time: bool = False
    """The first axis of S is time, and the batch has `seconds`."""
    painter: bool = False
    """The domain knows how anomalies look."""
    proposals: bool = False
    """Batches carry the domain's proposals."""
    whole_batch: bool = False
    """The loss is no mean over samples: ranks with a part of the batch each would learn something else than one."""


@dataclass(frozen=True)
class Geometry:
    """Shapes that follow from the data: what the domain's plan decides and an encoder is built from."""

    crop_shape: tuple[int, ...]
    """S of a training crop, one entry per spatial axis."""
    pooling: tuple[tuple[int, ...], ...]
    """Stride of each stage of a convolutional encoder relative to the stage before; the first is all ones."""
    patch_shape: tuple[int, ...]
    """S of one token of a transformer; divides `crop_shape`."""
    time_axis: bool = False
    """Whether the first axis of S is time."""
    actions: int = 0
    """A of `Batch.actions`; 0 where nothing of the ego-motion is known."""

    @property
    def spatial_axes(self) -> int:
        return len(self.crop_shape)


@runtime_checkable
class Encoder(Protocol):
    """A network that turns crops into feature maps, fine to coarse."""

    in_channels: int
    spatial_axes: int
    widths: tuple[int, ...]
    """Channels of each feature map."""
    strides: tuple[tuple[int, ...], ...]
    """Stride of each feature map relative to the input, per axis; the first is all ones."""

    def __call__(self, x: Tensor) -> list[Tensor]:
        """(B, C, *S) -> feature maps [(B, widths[i], *S / strides[i])]."""


class Decoder(Protocol):
    """A network that turns an encoder's feature maps into dense logits."""

    def __call__(self, features: list[Tensor]) -> Tensor:
        """feature maps -> (B, out_channels, *S)."""


class Objective(Protocol):
    """A pretext task: a module that holds an encoder and makes its own targets from unlabelled crops."""

    needs: Needs
    encoder: Encoder
    decoder: Decoder | None
    """A segmentation decoder that a head may start from (so there is a model with zero labels), or None."""

    def __call__(self, batch: Batch) -> Losses: ...

    def examples(self, batch: Batch) -> dict[str, Tensor]:
        """Named panels (B, 1, *S) of what the objective saw, asked and got, in display order."""

    def after_step(self) -> None:
        """Called after each optimisation step: moves teachers and fills queues. May be left out.

        The call with a batch changes nothing that a later one depends on; what has to be kept is a buffer, so that it
        travels in the checkpoint.
        """


class Painter(Protocol):
    """Pastes anomalies into crops: how the world's anomalies look, told to an objective by a domain."""

    def __call__(
        self, crops: Tensor, spacing_mm: Tensor | None, foreground: Tensor | None, sample_seed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, C, *S), (B, len(S)), (B, 1, *S), (B,) -> painted crops (B, C, *S), labels (B, 1, *S) int64 in {0, 1}."""


def pooled(features: list[Tensor]) -> Tensor:
    """(B, E) mean over space of the coarsest feature map."""
    return features[-1].flatten(2).mean(-1)
