"""dataset.yaml of a folder of drives: what it may say about itself."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from pydantic import ConfigDict, Field, ValidationError, field_validator

from domains.errors import UsageError
from domains.recipe import Frozen

FILE = "dataset.yaml"


class DatasetYaml(Frozen):
    """Every key is optional."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    namespace: str | None = None
    """Keeps equal drive names of two sources apart; two folders with one namespace share their drives."""
    licence: str = "not stated"
    """Of the data, as its publisher states it; carried into every report."""
    origin: str = ""
    """Where the data comes from and how to cite it."""
    group: str | None = None
    """Regular expression searched in a frame's or recording's path; its named group "group" is the drive."""
    frames_per_second: float | None = Field(default=None, gt=0)
    """How much the number in a frame's file name grows in a second."""
    telemetry_offset_seconds: float = 0.0
    """What is added to a time of the telemetry to get that of its recording."""

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

    def group_of(self, name: str, recognised: str) -> str | None:
        """The drive of a path: the expression's, None where it does not match; `recognised` without one."""
        if self.group is None:
            return recognised
        found = re.search(self.group, name)
        return found["group"] if found else None


def schema() -> dict[str, str]:
    """Key -> meaning, for `selfsight dataset check`."""
    return {key: " ".join((field.description or "").split()) for key, field in DatasetYaml.model_fields.items()}


def read_dataset_yaml(folder: Path) -> DatasetYaml:
    """What the folder says about itself; nothing where there is no such file.

    Raises:
        UsageError: the file is not YAML or has unknown or wrong keys.
    """
    file = folder / FILE
    if not file.is_file():
        return DatasetYaml()
    try:
        return DatasetYaml.model_validate(yaml.safe_load(file.read_text()) or {})
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not YAML: {error}") from None
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        keys = ", ".join(DatasetYaml.model_fields)
        raise UsageError(f"{file} is not understood:\n" + "\n".join(lines) + f"\nits keys are {keys}") from None
