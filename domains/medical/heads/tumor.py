"""The tumour head: one lesion class on FLAIR, judged by Dice."""

from __future__ import annotations

from domains.head import Head
from domains.medical import trivial
from domains.medical.heads import segmentation

HEAD = Head(
    name="tumor",
    primary_metric="dice",
    loss=segmentation.loss,
    predict=segmentation.predict,
    trivial=trivial.bright_blob,
    trivial_name="brightest large blob away from the skull",
    score=segmentation.score,
    summarise=segmentation.summarise,
    picture=segmentation.picture,
)
