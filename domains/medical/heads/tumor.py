"""The tumour head: a lesion, or its parts as classes, judged by Dice."""

from __future__ import annotations

from domains.head import Head
from domains.medical import propose, trivial
from domains.medical.heads import segmentation

HEAD = Head(
    name="tumor",
    primary_metric="dice",
    loss=segmentation.loss,
    predict=segmentation.predict,
    trivial=trivial.bright_blob,
    trivial_name="brightest large blob away from the skull",
    score=segmentation.score,
    primary_score=segmentation.mean_dice,
    summarise=segmentation.summarise,
    picture=segmentation.picture,
    named=segmentation.named,
    accounting=(
        "The settings of the threshold competitor were chosen among 36 on the labels of the 55 patients of "
        "brain_mri_lgg outside the usual held-out fifth.",
        "The form and settings of the proposals were chosen among 264 on the same 55; the painter of anomalies was "
        "made by somebody who had seen the outlines of 28. The 21 held-out patients had no say in either.",
    ),
    propose=propose.asymmetric_blob,
    write_mask=segmentation.write_mask,
)
