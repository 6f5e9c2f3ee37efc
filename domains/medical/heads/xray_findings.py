"""The head for findings of X-rays: each there or not by itself, judged by AUROC, also within each view."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domains.head import Evidence, Head, Prediction
from domains.manifest import Contract
from domains.medical import decisions, ranking, xray_show
from domains.medical.entries import open_entry
from domains.medical.xray_findings import read_findings
from ssl_models.decoders.classification import PooledClassifier
from ssl_models.protocols import Batch

# Logistic regression without a penalty, rounded, on the labels of the 444 development patients (647 images) of
# chest_xray_nih; the held-out fifth had no say. So this competitor has seen 444 labels. It says "pneumonia" sooner of
# standing patients (PA): the set was drawn so; in a clinic it is the ones in bed (AP) who have it more often.
LOG_ODDS, PER_VIEW, PER_DECADE, PER_SEX = -1.2, {"AP": 0.0, "PA": 0.8}, 0.2, {"F": 0.0, "M": 0.2}
USUAL_DECADE = 4.7
"""Mean of the development patients, for those of unknown age."""
SUBGROUPS = ("view", "sex", "age_band")


def decoder(encoder: Any, findings: int) -> nn.Module:
    """Logits (B, K) from the mean of the coarsest feature map."""
    return PooledClassifier(width=encoder.widths[-1], classes=findings)


def loss(logits: Tensor, batch: Batch) -> Tensor:
    """() binary cross-entropy of logits (B, K) against targets (B, K), over what is known of them (not nan)."""
    assert batch.targets is not None, "a head learns from labelled batches"
    known = ~batch.targets.isnan()
    each = F.binary_cross_entropy_with_logits(logits.float(), batch.targets.nan_to_num(), reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def predict(model: nn.Module, folder: Path, contract: Contract) -> Prediction:
    """(K,) float32 probabilities: of the whole image; of one that is not square the mean over its two ends.

    The mirrored image is not asked: its heart lies on the wrong side.
    """
    windows = torch.cat([window for _, window in _windows(model, folder, contract)])
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            logits: Tensor = model(windows)
    finally:
        model.train(training)
    return np.asarray(logits.float().sigmoid().mean(0).cpu().numpy(), dtype=np.float32)


def evidence(model: Any, folder: Path, contract: Contract) -> Evidence:
    """(K, H, W) float32: Grad-CAM of each finding on the stored image, as a share of its strongest place.

    It is as coarse as the encoder's last feature map and says nothing about how much speaks for a finding: only where.
    Where the two ends of an image that is not square overlap, their mean.

    Source: Selvaraju et al. 2017, arXiv 1610.02391.
    """
    height, width = open_entry(folder).shape[1:]
    found, seen = torch.zeros(contract.num_classes, height, width), torch.zeros(height, width)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for place, window in _windows(model, folder, contract):
                coarse = model.decoder.grad_cam(model.encoder(window))
                fine = F.interpolate(coarse, contract.crop_shape, mode="bilinear", align_corners=False)
                found[:, *place] += fine[0].cpu()
                seen[place] += 1
    finally:
        model.train(training)
    found = found / seen.clamp(min=1)
    strongest = found.amax((1, 2), keepdim=True)
    return np.asarray(torch.where(strongest > 0, found / strongest, 0).numpy(), dtype=np.float32)


def trivial(folder: Path, contract: Contract) -> Prediction:
    """(K,) the same for every finding, from view, age and sex; whatever is not known counts as half of each."""
    stated = _stated(folder)
    band = stated["age_band"]
    decade = USUAL_DECADE if band is None else int(band.partition("-")[0].rstrip("+")) // 10
    odds = LOG_ODDS + PER_DECADE * decade
    for weights, value in ((PER_VIEW, stated["view"]), (PER_SEX, stated["sex"])):
        odds += weights.get(value or "", float(np.mean(list(weights.values()))))
    return np.full(contract.num_classes, 1 / (1 + np.exp(-odds)), dtype=np.float32)


def score(prediction: Prediction, folder: Path, label: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """Figures of one image over its known findings: "brier" (0 is best), and the probability given to what is the case.

    Details: "probability" and "label" (1, 0, None) by finding, and sex, age band and view.
    """
    findings = read_findings(label)
    known = [(float(p), value) for p, value in zip(prediction, findings.values(), strict=True) if value is not None]
    off = np.array([p - value for p, value in known])
    probability = {name: round(float(p), 6) for name, p in zip(findings, prediction, strict=True)}
    details = {"probability": probability, "label": findings, **_stated(folder)}
    return {"brier": float((off**2).mean()), "label_probability": float(1 - np.abs(off).mean())}, details


def label_probability(prediction: Prediction, folder: Path, label: Path) -> float:
    """ "label_probability" of `score` by itself."""
    return score(prediction, folder, label)[0]["label_probability"]


def pool(details: Sequence[dict[str, Any]]) -> dict[str, float]:
    """AUROC, average precision and calibration error of a set of cases, and AUROC within AP and within PA.

    Means over the findings of the set where they are defined; with several findings also an AUROC for each.
    """
    return _averaged({name: _of_finding(details, name) for name in details[0]["label"]}, ("auroc",))


def decided(details: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Figures of `decisions` for a set of cases with "half": means over the findings, and the main ones of each."""
    return _averaged(
        {name: decisions.figures(*_known(details, name), _halves(details, name)) for name in details[0]["label"]},
        decisions.MAIN,
    )


def summarise(details: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """AUROC by view, sex and age, the points of a reliability diagram (several findings count together in it), and the
    threshold that finds 90 % of these cases, whose figures to expect are the cross-fitted ones of `decided`."""
    groups: dict[str, Any] = {}
    for what in SUBGROUPS:
        for value in sorted({str(d[what] or "unknown") for d in details}):
            inside = [d for d in details if str(d[what] or "unknown") == value]
            found = sum(1 in d["label"].values() for d in inside)
            area = pool(inside)["auroc"]
            groups[f"{what} {value}"] = {
                "cases": len(inside), "with finding": found, "auroc": area if np.isfinite(area) else None,
            }  # fmt: skip
    every = {name: _known(details, name) for name in (details[0]["label"] if details else ())}
    points = ranking.reliability(*map(np.concatenate, zip(*every.values(), strict=True))) if every else []
    at = {name: decisions.threshold_at(*known, decisions.SENSITIVITY) for name, known in every.items()}
    return {
        "by": groups,
        "reliability": [list(point) for point in points],
        f"threshold_for_{decisions.NAMED}": {name: t if np.isfinite(t) else None for name, t in at.items()},
        "notes": list(decisions.NOTES),
    }


def picture(folder: Path, prediction: Prediction, label: Path | None, evidence: Evidence | None = None) -> bytes:
    """PNG of the image as the network gets it, with the probability of each finding, the answer and the label's.

    Where there is evidence, a second time under that for the likeliest finding.
    """
    findings = read_findings(label) if label is not None else dict.fromkeys(map(str, range(1, len(prediction) + 1)))
    image = open_entry(folder).read()[0, 0]
    maps = None if evidence is None else evidence[:, ::-1, ::-1]
    return xray_show.judged(image[::-1, ::-1], dict(zip(findings, prediction, strict=True)), findings, maps)


def stratum(label: Path) -> int:
    """1 where a finding of the recipe is there, else 0."""
    return int(1 in read_findings(label).values())


def _windows(model: nn.Module, folder: Path, contract: Contract) -> list[tuple[tuple[slice, slice], Tensor]]:
    """Places on the stored image and crops (1, C, *S) there, which together cover it: one, or its two ends."""
    device = next(model.parameters()).device
    image = torch.from_numpy(np.ascontiguousarray(open_entry(folder).model_input(contract))).to(device)
    (height, width), (rows, columns) = image.shape[2:], contract.crop_shape
    ends = [(top, left) for top in sorted({0, height - rows}) for left in sorted({0, width - columns})]
    places = [(slice(top, top + rows), slice(left, left + columns)) for top, left in ends]
    return [(place, image[..., *place]) for place in places]


def _stated(folder: Path) -> dict[str, str | None]:
    stated: dict[str, str | None] = json.loads((folder / "stated.json").read_text())
    return stated


def _known(details: Sequence[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """(N,) probabilities and (N,) bool labels of the cases in which a finding is known."""
    pairs = [(d["probability"][name], d["label"][name]) for d in details if d["label"][name] is not None]
    return np.array([p for p, _ in pairs], dtype=float), np.array([value == 1 for _, value in pairs], dtype=bool)


def _halves(details: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    """(N,) int: "half" of the cases of `_known`."""
    return np.array([d["half"] for d in details if d["label"][name] is not None], dtype=int)


def _averaged(each: dict[str, dict[str, float]], named: Sequence[str]) -> dict[str, float]:
    """Means over the findings of their figures and, with several findings, some figures of each."""
    figures = {key: _mean([one[key] for one in each.values()]) for key in next(iter(each.values()))}
    if len(each) > 1:
        figures |= {f"{key}_{name}": one[key] for name, one in each.items() for key in named}
    return figures


def _of_finding(details: Sequence[dict[str, Any]], name: str) -> dict[str, float]:
    probability, label = _known(details, name)
    found = {
        "auroc": ranking.auroc(probability, label),
        "average_precision": ranking.average_precision(probability, label),
        "ece": ranking.calibration_error(probability, label),
    }
    views = [d["view"] for d in details if d["label"][name] is not None]
    for view in PER_VIEW:
        inside = np.array([one == view for one in views], dtype=bool)
        found[f"auroc_{view.lower()}"] = ranking.auroc(probability[inside], label[inside])
    return found


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


HEAD = Head(
    name="xray_findings",
    primary_metric="auroc",
    case_metric="label_probability",
    loss=loss,
    predict=predict,
    trivial=trivial,
    trivial_name="view + age + sex",
    score=score,
    primary_score=label_probability,
    summarise=summarise,
    picture=picture,
    decoder=decoder,
    pool=pool,
    decisions=decided,
    evidence=evidence,
    stratum=stratum,
    accounting=(
        "The four weights of the competitor that looks at view, age and sex alone were fitted on the labels of the 444 "
        "patients of chest_xray_nih outside the usual held-out fifth, for pneumonia; in folds of that set it has seen "
        "test labels, which favours it.",
    ),
)
