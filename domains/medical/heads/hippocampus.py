"""The hippocampus head: anterior and posterior part, judged by the mean Dice of the two."""

from __future__ import annotations

from domains.head import Head
from domains.medical import trivial
from domains.medical.heads import segmentation

HEAD = Head(
    name="hippocampus",
    primary_metric="dice",
    loss=segmentation.loss,
    predict=segmentation.predict,
    trivial=trivial.halved_ellipsoid,
    trivial_name="ellipsoid cut in two",
    score=segmentation.score,
    primary_score=segmentation.mean_dice,
    summarise=segmentation.summarise,
    picture=segmentation.picture,
    named=segmentation.named,
    write_mask=segmentation.write_mask,
    may_be_empty=False,  # everybody has one
)
