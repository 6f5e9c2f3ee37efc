"""Arms of a study: each competitor as data - how it starts, what it sees, and what it is compared for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from domains.domain import load
from domains.errors import UsageError
from domains.head import Head
from domains.recipe import Recipe
from pipelines.pretrain import given_by
from ssl_models import disturb, objectives

PROPOSAL = "proposal"
FEW = (3, 10)
"""Label budgets of the arms that are about spending few labels well."""

GENTLE = (("pretrain.learning_rate", "0.001"),)
"""Of objectives that are not the recipe's own."""

Start = Literal["trivial", "proposal", "scratch", "pretrained", "given"]


@dataclass(frozen=True)
class Arm:
    """One competitor; everything that differs between arms is here."""

    name: str
    kind: Literal["trivial", "scratch", "pretrained", "control", "strategy", "robustness"]
    what: str
    start: Start
    objective: str = ""
    """Of the pretraining, where there is one."""
    given: str = ""
    """Folder of an encoder or model that a user has; `what` holds the digest of its weights."""
    given_head: bool = False
    """Whether a trained head comes with it."""
    changes: tuple[tuple[str, str], ...] = ()
    """Recipe keys that this arm sets, as YAML text."""
    taught: bool = False
    """The model trained on the labels labels the other development subjects, and a second one learns from both."""
    strategy: str = "random"
    """Which groups are labelled first."""
    budgets: tuple[int, ...] | None = None
    """The label budgets it is tried at where nobody named it; all by default."""
    disturbed: str = ""
    """Of `disturb.NAMES`: what its models' inputs suffer when they are judged. They are trained as without it."""

    @property
    def needs_training(self) -> bool:
        return self.start not in ("trivial", "proposal")

    def has_model_without_labels(self, head: Head, classes: int) -> bool:
        """Whether its pretraining brings a decoder for a head of so many classes along."""
        if self.given_head:
            return True
        return head.dense and bool(self.objective) and objectives.gives_zero_label_model(self.objective, classes)

    @property
    def rank(self) -> int:
        """Place in the queue: what the verdict needs comes first."""
        return ("pretrained", "scratch", "trivial", "strategy", "control", "robustness").index(self.kind)

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe as this arm changes it."""
        changes = dict(self.changes)
        return recipe.changed(changes | ({"objective": self.objective} if self.objective else {}))


def arms_of(recipe: Recipe, wanted: Sequence[str] | None = None, given: Path | None = None) -> list[Arm]:
    """The arms of a study of this recipe, or those named, which are tried at every budget that is asked for.

    `given` is the folder of an encoder or model that a user brought.

    Every objective that fits the recipe's data may be named too.

    Raises:
        UsageError: an unknown name.
    """
    arms = [*_competitors(recipe), *_pretrained(recipe), *_controls(recipe)]
    if given is not None:
        arms.append(_given(given, recipe))
    if wanted is None:
        return arms
    others = {name: _instead(name) for name in objectives.fitting(given_by(recipe))}
    known = others | {arm.name: arm for arm in arms}
    if unknown := [name for name in wanted if name not in known]:
        raise UsageError(f"unknown arms {', '.join(unknown)}; arms are {', '.join(known)}")
    return [replace(known[name], budgets=None) for name in wanted]


def screened(recipe: Recipe) -> list[Arm]:
    """Every objective that fits the recipe's data, each behind a frozen encoder, beside a random one.

    Only the decoder sees labels, so what differs is what the features tell: quick, and enough to choose which of them
    are worth folds and full fine-tuning.
    """
    head = load(recipe.domain).heads[recipe.head]
    frozen = (("finetune.encoder", "frozen"), ("finetune.self_training", "0"))
    arms = [
        Arm(head.trivial_name, "trivial", "A rule that has learned nothing.", "trivial"),
        Arm("scratch", "scratch", "A frozen random encoder: only the decoder learns.", "scratch", changes=frozen),
    ]
    for name in objectives.fitting(given_by(recipe)):
        gentle = () if name == recipe.objective else GENTLE
        arms.append(Arm(name, "pretrained", objectives.caption(name), "pretrained", name, changes=frozen + gentle))
    return arms


def under(name: str, disturbance: str) -> str:
    """The name of an arm when its models are judged on disturbed images; without a disturbance its own."""
    return f"{name} under {disturbance}" if disturbance else name


def disturbed(arms: Sequence[Arm], budget: int) -> list[Arm]:
    """The arms from scratch and from pretraining once more for each disturbance, at one label budget.

    Their models are those of the undisturbed arms: only the judging differs.
    """
    return [
        replace(arm, name=under(arm.name, name), kind="robustness", budgets=(budget,), disturbed=name,
                what=f"The models of {arm.name}, judged on images with {words}.")
        for name, words in disturb.WORDS.items() for arm in arms if arm.kind in ("scratch", "pretrained")
    ]  # fmt: skip


def _competitors(recipe: Recipe) -> Iterator[Arm]:
    head = load(recipe.domain).heads[recipe.head]
    yield Arm(head.trivial_name, "trivial", "A rule that has learned nothing.", "trivial")
    if head.propose is not None:
        yield Arm(PROPOSAL, "trivial", "The rule that the objective proposals learns from, by itself.", "proposal")
    yield Arm("scratch", "scratch", "The same fine-tuning from random weights.", "scratch")
    if head.write_mask is not None:
        what = (
            "The scratch model labels the fold's unlabelled subjects; a second network learns from both, half and half."
        )
        yield Arm("pseudo-labels", "strategy", what, "scratch", taught=True, budgets=FEW)


def _pretrained(recipe: Recipe) -> Iterator[Arm]:
    """The recipe's own objective first, then others, then other ways to choose what is labelled."""
    own, domain = recipe.objective, load(recipe.domain)
    yield Arm(own, "pretrained", "The recipe as it is.", "pretrained", objective=own)
    for name in ("mae", "anomaly_synthesis"):
        if name != own and (domain.paints(recipe) or not objectives.needs(name).painter):
            yield _instead(name)
    for name in ("foreground_aware_random", "next") if domain.heads[recipe.head].dense else ("next",):
        what = f"As {own}; the strategy {name} says which groups are labelled."
        yield Arm(f"labels by {name}", "strategy", what, "pretrained", objective=own, strategy=name, budgets=FEW)


def _given(folder: Path, recipe: Recipe) -> Arm:
    """Weights from elsewhere, or an encoder or model of another data set; a model of the same head brings that too."""
    info = json.loads((folder / "model.json").read_text())
    lineage, head = info["lineage"], info["kind"] == "model" and info["recipe"]["head"] == recipe.head
    source = lineage.get("given", {}).get("source") or f"the {info['recipe']['name']} {info['kind']} {folder.name[:12]}"
    what = f"Started from weights that were there: {source} (sha256 {info['sha256'][:12]})."
    return Arm("given weights", "pretrained", what, "given", given=str(folder), given_head=head)


def _instead(objective: str) -> Arm:
    what = f"Pretrained with {objective} instead, at a rate of 1e-3, tuned for reconstruction and painting alone."
    return Arm(objective, "pretrained", what, "pretrained", objective, changes=GENTLE)


def _controls(recipe: Recipe) -> Iterator[Arm]:
    frozen = (("finetune.encoder", "frozen"),)
    yield Arm(
        "frozen random encoder", "control", "Only the decoder learns, on random features.", "scratch", changes=frozen
    )
    twice = (("finetune.steps", str(2 * recipe.finetune.steps)),)
    what = "As scratch, for twice as long: no gain, if scratch has reached its plateau."
    yield Arm("scratch for twice the steps", "control", what, "scratch", changes=twice, budgets=FEW)
    shuffled, noise = ((("pretrain.control", kind),) for kind in ("shuffled", "noise"))
    if objectives.needs(recipe.objective).proposals:
        what = "Every subject gets another one's proposal."
        yield Arm("shuffled proposals", "control", what, "pretrained", recipe.objective, changes=shuffled, budgets=(3,))
    if load(recipe.domain).paints(recipe):
        what = "anomaly_synthesis where nothing but noise is painted."
        yield Arm("painter of noise", "control", what, "pretrained", "anomaly_synthesis", changes=noise, budgets=(3,))
