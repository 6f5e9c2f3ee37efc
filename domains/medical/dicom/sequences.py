"""Which kind of image a series is: from what the scanner did first, from what a person called it last."""

from __future__ import annotations

import re

from domains.medical.dicom.instance import Instance

KINDS = ("flair", "t1", "t1post", "t2", "pd", "t2star", "stir", "dwi", "epi", "ct")
SYNONYMS = {
    "t2f": "flair",
    "t1n": "t1",
    "t1pre": "t1",
    "t1c": "t1post",
    "t1ce": "t1post",
    "t1gd": "t1post",
    "t2w": "t2",
}
"""Other names of them, in file names and recipes."""
_CONTRAST = {"FLUID_ATTENUATED": "flair", "T1": "t1", "T2": "t2", "PROTON_DENSITY": "pd", "T2_STAR": "t2star",
             "STIR": "stir", "DIFFUSION": "dwi"}  # fmt: skip
_WORDS = (
    ("flair", r"flair|t2f\b|dark.?fluid"), ("dwi", r"dwi|diff|adc|trace"), ("t2star", r"t2\*|t2star|swi|gre\b"),
    ("stir", r"stir"), ("t1", r"t1|mprage|bravo|spgr|tfl"), ("t2", r"t2"), ("pd", r"\bpd"),
)  # fmt: skip
_ENHANCED = re.compile(r"(\+|post|\bgad|\bgd\b|\bce\b|contrast|t1c|\bc\+)", re.IGNORECASE)


def known_as(name: str) -> str:
    """The kind that a channel's name or a word of a file name stands for; itself where it stands for none."""
    return SYNONYMS.get(name, name)


def kind_of(instance: Instance) -> str | None:
    """One of `KINDS`, or None when neither the parameters nor the names tell.

    Times of the spin echo families as in McRobbie et al. 2017, MRI from Picture to Proton, ch. 3 and 12: T1 has short
    TR and TE, T2 long ones, FLAIR inverts with a TI that nulls water (1.5 s and more), STIR with one that nulls fat.
    """
    if instance.text("Modality") == "CT":
        return "ct"
    if instance.text("Modality") != "MR":
        return None
    stated = _CONTRAST.get(instance.text("AcquisitionContrast").upper())
    found = stated or _by_parameters(instance) or _by_name(instance)
    if found == "t1" and (instance.text("ContrastBolusAgent") or _ENHANCED.search(_name(instance))):
        return "t1post"
    return found


def _by_parameters(instance: Instance) -> str | None:
    how = {*instance.words("ScanningSequence"), *instance.words("SequenceVariant")}
    tr, te, ti = (instance.number(name) for name in ("RepetitionTime", "EchoTime", "InversionTime"))
    if instance.number("DiffusionBValue"):
        return "dwi"
    if "EP" in how:
        return "epi"
    if te is None or not how:
        return None
    if ti and "IR" in how:
        return _inverted(te, ti)
    if "SE" in how and tr is not None:
        if tr <= 1200 and te <= 35:
            return "t1"
        if tr >= 1500:
            return "t2" if te >= 60 else "pd" if te <= 40 else None
    if "GR" in how and "SE" not in how:
        return "t1" if te <= 10 else "t2star" if te >= 14 else None
    return None


def _inverted(te: float, ti: float) -> str | None:
    if ti >= 1500:
        return "flair" if te >= 60 else None
    if ti <= 300:
        return "stir"
    return "t1" if te <= 35 else None


def _by_name(instance: Instance) -> str | None:
    name = _name(instance)
    return next((kind for kind, pattern in _WORDS if re.search(pattern, name, re.IGNORECASE)), None)


def _name(instance: Instance) -> str:
    """Looked at, never kept."""
    return f"{instance.text('SeriesDescription')} {instance.text('ProtocolName')}".replace("_", " ")
