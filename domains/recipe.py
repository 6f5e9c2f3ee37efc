"""Recipe: the frozen, complete description of a run, written in Python and exported as YAML."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from domains.errors import RecipeError

Scalar = bool | int | float | str


class Frozen(BaseModel):
    """A value: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def digest_of(value: Any) -> str:
    """sha256 (hex) of a JSON-able value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Training(Frozen):
    """What one training loop needs besides data."""

    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    warmup_steps: int = Field(default=50, ge=0)
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Learning-rate factor from one encoder stage to the one before it; 1 is off."""
    clip_norm: float = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    """Decay of the averaged weights that are kept at the end; 0 keeps the last weights."""
    checkpoint_every: int = Field(default=100, gt=0)


class Pretrain(Training):
    control: Literal["shuffled", "noise"] | None = None
    """A negative control, which must not help: every subject gets another one's proposal, or anomalies are asked for
    where nothing but noise was painted."""
    objectives: dict[str, dict[str, Scalar]] = Field(default_factory=dict)
    """Settings per objective name, e.g. {"mae": {"mask_ratio": 0.75}}."""
    probe_every: int = Field(default=0, ge=0)
    """Steps between two looks at what the frozen features tell about labels of development groups; 0 never looks."""
    drop_near_duplicates: bool = False
    """Leave out what is nearly the image of a held-out subject, and all but the first of near-duplicates."""
    stop_on_collapse: bool = False
    """Stop, instead of only warning, when every crop gets the same features."""


class Finetune(Training):
    augment: bool = True
    encoder: Literal["full", "frozen", "probe"] = "full"
    """What learns: encoder and decoder, the decoder alone, or one linear layer on the frozen encoder's features."""
    self_training: float = Field(default=0, ge=0)
    """How many labelled groups the unlabelled development subjects together count as, with the masks of the model that
    pretraining alone gives (zero labels); 0 is off, as it is where pretraining gives no such model."""

    @model_validator(mode="before")
    @classmethod
    def _as_written_before(cls, values: Any) -> Any:
        """Recipes in older model folders say `frozen_encoder`, yes or no."""
        if isinstance(values, dict) and "encoder" not in values and isinstance(values.get("frozen_encoder"), bool):
            values = dict(values)
            values["encoder"] = "frozen" if values.pop("frozen_encoder") else "full"
        return values

    def decisive(self) -> dict[str, Any]:
        """What decides the weights, as store keys have it: models that older versions trained are found again."""
        settings = self.model_dump(mode="json", exclude={"checkpoint_every", "encoder"})
        probe = {"probe": True} if self.encoder == "probe" else {}
        return settings | {"frozen_encoder": self.encoder != "full"} | probe


class Recipe(Frozen):
    """One complete description of a run. A domain narrows `data` to its own settings."""

    name: str = Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Part of file names in the home: a folder from elsewhere may not lead out of it."""
    domain: str
    head: str
    objective: str = "mae"
    encoder: Literal["resunet", "vit", "slow", "x3d"] = "resunet"
    size: Literal["tiny", "small", "base"] = "tiny"
    seed: int = Field(default=0, ge=0)
    fold: str | None = None
    """"i/n" holds out the i-th of n equal parts of the groups instead of the usual fifth."""
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed"
    devices: int = Field(default=1, gt=0)
    data: Frozen
    pretrain: Pretrain
    finetune: Finetune

    @field_validator("fold")
    @classmethod
    def _is_fold(cls, fold: str | None) -> str | None:
        index, _, count = (fold or "1/2").partition("/")
        if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count) and int(count) >= 2):
            raise ValueError("a fold is written i/n with 1 <= i <= n and n >= 2")
        return fold

    def digest(self, *parts: str) -> str:
        """sha256 (hex) of the named fields (all of them by default): a part of cache keys."""
        return digest_of(self.model_dump(mode="json", include=set(parts) or None))

    def changed(self, changes: Mapping[str, str]) -> Self:
        """The recipe with `changes` (dotted key -> YAML text) applied and checked.

        Raises:
            RecipeError: an unknown key (with the nearest known one) or a value of the wrong kind.
        """
        values = self.model_dump(mode="json")
        for dotted, text in changes.items():
            *parents, last = dotted.split(".")
            at = values
            for part in parents:
                at = at.setdefault(part, {}) if isinstance(at, dict) else {}
            try:
                at[last] = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise RecipeError(f"recipe key {dotted!r}: {text!r} is not YAML: {error}") from None
        return type(self).checked(values)

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> Self:
        """A recipe from plain values.

        Raises:
            RecipeError: what is wrong, key by key, with suggestions.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise RecipeError(_explain(cls, error)) from None

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        path = [str(part) for part in problem["loc"]]
        dotted = ".".join(path)
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(dotted, _dotted_keys(model), n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            lines.append(f"unknown recipe key {dotted!r}{hint}")
        else:
            lines.append(f"recipe key {dotted!r}: {problem['msg'].lower()} (got {problem['input']!r})")
    return "\n".join(lines)


def _dotted_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, info in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            keys += _dotted_keys(info.annotation, f"{prefix}{name}.")
    return keys
