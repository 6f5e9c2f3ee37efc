"""Head: a downstream task as one object - loss, inference, judgement, the trivial competitor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from domains.manifest import Contract
from domains.recipe import Recipe
from ssl_models.protocols import Batch

Prediction = np.ndarray
"""(K, *S) float32 probabilities, background first, on the grid of the subject as read (before resampling); of a head
that judges subjects as a whole (K,), a probability for each of its findings; of one that gives boxes (N, 7), a score,
then the first voxel along D, H, W and one past the last."""
Evidence = np.ndarray
"""(K, *S) float32 in [0, 1], coarse or fine, over the very box of the subject's stored grid: where in the subject each
finding's probability comes from, 1 at its strongest place and 0 where nothing speaks for it."""


def segmentation_decoder(encoder: Any, classes: int) -> nn.Module:
    """The expanding half of a U-Net: dense logits (B, K, *S)."""
    from ssl_models.decoders.segmentation import SegmentationDecoder  # imports MONAI, and with it MLflow: seconds

    return SegmentationDecoder(widths=encoder.widths, strides=encoder.strides, out_channels=classes)


def linear_decoder(encoder: Any, classes: int) -> nn.Module:
    """One linear layer on all feature maps: dense logits (B, K, *S). What a linear probe of a dense head is."""
    from ssl_models.decoders.linear import LinearDecoder

    return LinearDecoder(widths=encoder.widths, strides=encoder.strides, out_channels=classes)


@dataclass(frozen=True)
class Head:
    """What is learned from labels. Every function is plain; `entry` is a subject's folder in the store."""

    name: str
    primary_metric: str
    """Key of `score` or of `pool` that a model is judged by; higher is better."""
    loss: Callable[[Tensor, Batch], Tensor]
    """logits (B, K, *S), batch with targets -> () loss."""
    predict: Callable[[nn.Module, Path, Contract], Prediction]
    """Model (crops (B, C, *S) -> logits (B, K, *S)), subject entry -> prediction."""
    trivial: Callable[[Path, Contract], Prediction]
    """The competitor that has learned nothing, for every table."""
    trivial_name: str
    score: Callable[[Prediction, Path, Path], tuple[dict[str, float], dict[str, Any]]]
    """prediction, subject entry, label entry -> metrics of one case (nan where undefined), and small JSON details."""
    primary_score: Callable[[Prediction, Path, Path], float]
    """`ranked_by` of `score` by itself, which a study asks for thousands of times."""
    summarise: Callable[[Sequence[dict[str, Any]]], dict[str, Any]]
    """Details of all cases -> figures that are not means over cases (FROC, ...), as JSON."""
    picture: Callable[[Path, Prediction, Path | None, Evidence | None], bytes]
    """subject entry, prediction, label entry if there is one, evidence if the head has it -> PNG overlay."""
    propose: Callable[[Path, Contract], Prediction] | None = None
    """A guess at the label from general knowledge alone, for the objective `proposals`; None: nothing is known."""
    accounting: Sequence[str] = ()
    """Which labels the settings of `trivial` and `propose` have seen, in sentences for every study."""
    named: Callable[[Head, Recipe], Head] | None = None
    """The head with `score` and `picture` calling its classes by the names that a recipe gives them; None: no names."""
    decoder: Callable[[Any, int], nn.Module] = segmentation_decoder
    """encoder, classes of the contract -> what turns its feature maps into the logits that `loss` takes. Of a head that
    judges subjects as a whole it is linear, so that it is what a linear probe trains."""
    pool: Callable[[Sequence[dict[str, Any]]], dict[str, float]] | None = None
    """Details of a set of cases -> metrics of the set (AUROC, mIoU over all pixels) that are no means over cases. They
    join the others by name, and the primary metric may be one; None: there are none."""
    decisions: Callable[[Sequence[dict[str, Any]]], dict[str, float]] | None = None
    """As `pool`, of what is decided by a threshold or a confidence; asked in evaluations alone. The details then have
    "half", 0 or 1 by group, so that a threshold can be chosen on other groups than it is judged on. None: the likeliest
    class is all that is decided."""
    evidence: Callable[[nn.Module, Path, Contract], Evidence] | None = None
    """Model (with its parts `encoder` and `decoder`), subject entry -> where its prediction comes from. None:
    predictions lie on a grid and show it themselves."""
    case_metric: str = ""
    """Key of `score` by which cases are compared one by one, higher is better, where the primary metric is one of sets
    alone."""
    stratum: Callable[[Path], int] | None = None
    """Label entry -> class of the subject as a whole, 0 for nothing found. Label budgets then take groups of each class
    in turn: three patients without the finding teach nothing. None: labels are outlines, budgets are drawn blindly."""
    counts_subjects: bool = False
    """A label budget counts subjects and not groups: a drive is thousands of frames, each outlined by itself. Whole
    groups are held out all the same."""
    write_mask: Callable[[Prediction, Path, Path, Contract], None] | None = None
    """prediction, subject entry, folder, contract -> a label entry, to train on as if it were one; None: cannot be."""

    of_frames: Callable[[nn.Module, np.ndarray, Contract, tuple[int, int]], Sequence[Any]] | None = None
    """Model, frames (N, H, W, 3) uint8 on the stored grid, contract, native (H, W) -> what is said of each frame, in
    pixels of the source: how a recording is predicted as a stream. None: subjects are no frames."""

    may_be_empty: bool = True
    """Whether a label without any foreground is an answer (there is nothing); else it is refused as unfinished."""

    @property
    def ranked_by(self) -> str:
        """The key of `score` that ranks cases."""
        return self.case_metric or self.primary_metric

    @property
    def of_sets(self) -> bool:
        """Whether the primary metric is one of sets of cases, so that a study must keep the details of each case."""
        return bool(self.case_metric)

    @property
    def dense(self) -> bool:
        """Whether predictions lie on a grid, so that a segmentation decoder fits and foreground can be expected."""
        return self.decoder is segmentation_decoder
