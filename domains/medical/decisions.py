"""Decisions from probabilities: calling a finding at a chosen sensitivity, and no answer where the model is unsure."""

from __future__ import annotations

import numpy as np

SENSITIVITY = 0.9
"""The share of the cases with a finding that the operating point is to find."""
FEWEST = 10
"""With fewer answered cases nothing is said of how good the answers are."""
NAMED = f"{100 * SENSITIVITY:.0f}_percent_sensitivity"
CONFIDENCE = 0.75
"""Below this probability of its likelier answer (yes or no) a model says that it does not know."""
NOTES = (
    f"Specificity at {SENSITIVITY:.0%} sensitivity is the reading off the ROC curve: its threshold was chosen on the "
    "very cases it is judged on, which is optimistic, and no one can have set it before.",
    "Cross-fitted: the evaluated patients are halved, the threshold that finds "
    f"{SENSITIVITY:.0%} in one half judges the other, and both are counted together. The sensitivity is the one "
    "really reached. PPV and NPV hold at this set's share of cases with the finding and at no other.",
    f"Answered: the share of cases in which yes or no has a probability of at least {CONFIDENCE:.0%}; of the others "
    "the model says that it does not know. Error, sensitivity and specificity of what is answered leave those out, so "
    "they are to be read together with the share answered. A probability is only as good as its calibration.",
)
"""What the figures of this file mean, for reports."""
MAIN = ("sensitivity_cross_fitted", "specificity_cross_fitted", "answered", "error_answered")
"""What of `figures` is said of each of several findings."""


def answer(probability: float) -> str:
    """ "yes", "no", or "unknown" below `CONFIDENCE`.

    Source: Chow 1970, doi:10.1109/TIT.1970.1054406; Geifman, El-Yaniv 2017, arXiv 1705.08500.
    Differs: one confidence set beforehand, none chosen for a risk that is promised.
    """
    if max(probability, 1 - probability) < CONFIDENCE:
        return "unknown"
    return "yes" if probability >= 0.5 else "no"


def threshold_at(probability: np.ndarray, label: np.ndarray, sensitivity: float) -> float:
    """The highest threshold (called from it upwards) that finds that share of the cases; nan where none has it.

    Args:
        probability: (N,) scores.
        label: (N,) bool.
        sensitivity: in (0, 1].
    """
    with_finding = np.sort(probability[label])[::-1]
    needed = int(np.ceil(sensitivity * len(with_finding) - 1e-9))
    return float(with_finding[needed - 1]) if needed else float("nan")


def counts(called: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(2, 2) cases: rows without and with the finding, columns not called and called."""
    return np.bincount(2 * label.astype(int) + called, minlength=4).reshape(2, 2)


def rates(table: np.ndarray) -> dict[str, float]:
    """Sensitivity, specificity, PPV and NPV of `counts`; nan where nothing is to be divided by."""
    (true_no, false_yes), (false_no, true_yes) = table.tolist()
    pairs = {
        "sensitivity": (true_yes, false_no), "specificity": (true_no, false_yes),
        "ppv": (true_yes, false_yes), "npv": (true_no, false_no),
    }  # fmt: skip
    return {name: right / (right + wrong) if right + wrong else float("nan") for name, (right, wrong) in pairs.items()}


def cross_fitted(probability: np.ndarray, label: np.ndarray, half: np.ndarray) -> dict[str, float]:
    """`rates` where each half is judged by the threshold for `SENSITIVITY` of the other, counted together.

    Args:
        probability: (N,) scores.
        label: (N,) bool.
        half: (N,) 0 or 1, the same for all cases of a group. nan where a half has no case with the finding.
    """
    table = np.zeros((2, 2), dtype=int)
    for one in (0, 1):
        threshold = threshold_at(probability[half != one], label[half != one], SENSITIVITY)
        if np.isnan(threshold):
            return dict.fromkeys(rates(table), float("nan"))
        table += counts(probability[half == one] >= threshold, label[half == one])
    return rates(table)


def selective(probability: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """What is answered at `CONFIDENCE`, and how good that is.

    Returns:
        "answered", a share of the cases (the coverage); "error_answered", the share of wrong answers (the selective
        risk), beside "error_all", that of answering every case; "sensitivity_answered" and "specificity_answered".
        What is about the answered cases is nan where there are fewer than `FEWEST`.

    Source: El-Yaniv, Wiener 2010 (JMLR 11); Geifman, El-Yaniv 2017, arXiv 1705.08500.
    """
    called, sure = probability >= 0.5, np.maximum(probability, 1 - probability) >= CONFIDENCE
    judged = sure if sure.sum() >= FEWEST else np.zeros_like(sure)
    among = rates(counts(called[judged], label[judged]))
    return {
        "answered": _share(sure),
        "error_answered": _share((called != label)[judged]),
        "error_all": _share(called != label),
        "sensitivity_answered": among["sensitivity"],
        "specificity_answered": among["specificity"],
    }


def figures(probability: np.ndarray, label: np.ndarray, half: np.ndarray) -> dict[str, float]:
    """Everything of this file about one finding: the ROC reading, what is cross-fitted, what is answered."""
    threshold = threshold_at(probability, label, SENSITIVITY)
    at_threshold = rates(counts(probability >= threshold, label))["specificity"]
    fitted = {f"{name}_cross_fitted": rate for name, rate in cross_fitted(probability, label, half).items()}
    roc = float("nan") if np.isnan(threshold) else at_threshold
    return {f"specificity_at_{NAMED}": roc, **fitted, **selective(probability, label)}


def _share(which: np.ndarray) -> float:
    return float(which.mean()) if len(which) else float("nan")
