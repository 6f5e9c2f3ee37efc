"""dataset.yaml: what a source folder may say about itself; it wins over every recognised layout."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import yaml
from pydantic import ConfigDict, Field, ValidationError, field_validator

from domains.errors import UsageError
from domains.recipe import Frozen

FILE = "dataset.yaml"


class DatasetYaml(Frozen):
    """Every key is optional. Without `images` the layout is recognised, and the other keys hold for it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    namespace: str | None = None
    """Keeps equal patient names of two sources apart; two folders with one namespace share their patients."""
    licence: str = "not stated"
    """Of the data, as its publisher states it; carried into every report."""
    origin: str = ""
    """Where the data comes from and how to cite it."""
    spacing: Literal["real", "nominal"] = "real"
    """nominal: the files' spacing is not the scanner's, so nothing is reported in mm or ml."""
    captures: Literal["refused", "clean"] = "refused"
    """clean: no secondary capture among the X-rays has text in its pixels that names a patient; they are taken."""
    takes: Literal["everything", "labels"] = "everything"
    """labels: every image is in the dataset already, and only labels are taken; `selfsight next --out` writes this."""
    images: dict[str, str] = Field(default_factory=dict)
    """Channel -> path pattern below the folder, e.g. {flair: "{subject}/*_flair.nii.gz"}; * stays in one name."""
    label: str | None = None
    """Path pattern of the labels, e.g. "{subject}/mask.nii.gz"."""
    group: str | None = None
    """Regular expression searched in the subject's name; its named group "group" is the patient."""
    classes: dict[str, int | list[int]] = Field(default_factory=dict)
    """Recipe class -> value or values in the label files, e.g. {tumor: [1, 2, 4]}."""

    @field_validator("images", "label")
    @classmethod
    def _has_subject(cls, value: dict[str, str] | str | None) -> dict[str, str] | str | None:
        patterns = list(value.values()) if isinstance(value, dict) else [value] if value else []
        for pattern in patterns:
            if pattern.count("{subject}") < 1:
                raise ValueError("a pattern must contain {subject}")
        return value

    @field_validator("group")
    @classmethod
    def _names_group(cls, value: str | None) -> str | None:
        try:
            named = value is None or "group" in re.compile(value).groupindex
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if not named:
            raise ValueError("the expression needs a named group (?P<group>...)")
        return value

    @property
    def statement(self) -> str:
        return "; ".join(part for part in (self.licence, self.origin) if part)

    def group_of(self, subject: str) -> str | None:
        """The patient of a subject's name; None when the expression does not match it."""
        if self.group is None:
            return subject
        found = re.search(self.group, subject)
        return found["group"] if found else None


def schema() -> dict[str, str]:
    """Key -> meaning, for `selfsight dataset check`."""
    return {key: " ".join((field.description or "").split()) for key, field in DatasetYaml.model_fields.items()}


def read_dataset_yaml(folder: Path) -> DatasetYaml | None:
    """What the folder says about itself, or None.

    Raises:
        UsageError: the file is not YAML or has unknown or wrong keys.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        return DatasetYaml.model_validate(yaml.safe_load(file.read_text()) or {})
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not YAML: {error}") from None
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        keys = ", ".join(DatasetYaml.model_fields)
        raise UsageError(f"{file} is not understood:\n" + "\n".join(lines) + f"\nits keys are {keys}") from None


def pattern_to_regex(pattern: str) -> re.Pattern[str]:
    """A path pattern -> expression with the named group `subject`; {subject} and * match within one name."""
    text = re.escape(pattern).replace(r"\{subject\}", "(?P<subject>[^/]+)", 1)
    text = text.replace(r"\{subject\}", "(?P=subject)").replace(r"\*", "[^/]*")
    return re.compile(text)
