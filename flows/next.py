"""The command `next`: which subjects to label next and why, and what the next hour of labelling should buy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.options import Home, Json, RecipeFile, RecipeName, Set, recipe_of
from flows.output import command

if TYPE_CHECKING:
    from pipelines.hand_out import Handed
    from pipelines.label_meter import Reading
    from pipelines.next import Suggestion


def next_to_label(
    recipe: RecipeName,
    count: Annotated[int, typer.Option(min=1, help="How many groups (patients, drives) to suggest.")] = 3,
    minutes_per_label: Annotated[float, typer.Option(min=0.1, help="What labelling one group takes, for the meter.")] = 30.0,  # noqa: E501
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="A new folder for the cases: images, drafts and a README; `ingest` takes the answers from it.", show_default=False)] = None,  # noqa: E501
    home: Home = None, as_json: Json = False, changes: Set = None, recipe_file: RecipeFile = None,
) -> None:  # fmt: skip
    """Say which subjects to label next and why, and what the next labels are expected to buy."""
    with command(home, as_json) as c:
        wanted = recipe_of(recipe, changes, recipe_file)
        from pipelines.label_meter import newest_study, read_meter
        from pipelines.next import next_groups

        found = next_groups(wanted, c.home, count)
        handed: list[Handed] = []
        if out is not None and found.choices:
            from pipelines.hand_out import hand_out

            handed = hand_out(found, wanted, c.home, out)
        study = newest_study(c.home, wanted.name)
        meter = None
        if study:
            arm = study[1].get("main_arm") or None
            meter = read_meter(study[1], found.labelled, minutes_per_label=minutes_per_label, arm=arm)
        answer = {
            "next": rows(found), "groups": found.groups, "labelled": found.labelled,
            "partly_labelled": found.partly_labelled, "encoder": found.encoder and str(found.encoder),
            "model": found.model and str(found.model), "study": study and str(study[0]),
            "meter": meter.to_json() if meter else None, "out": str(out) if handed else None,
            "cases": [asdict(one) for one in handed],
        }  # fmt: skip
        lines = [*suggestion(found, wanted.name), *handed_out(handed, wanted.name, out)]
        c.done(answer, *lines, *metered(meter, bool(study), wanted.name))


def rows(found: Suggestion) -> list[dict[str, Any]]:
    """One JSON object a subject, in order; the subjects of a group follow each other."""
    return [
        {
            "subject_id": subject.subject_id, "group": group, "cluster_size": why.cluster_size,
            "cluster_labelled": why.cluster_labelled, "typicality": why.typicality,
            "expected_foreground": why.foreground, "uncertainty": why.uncertainty,
        }
        for group, subjects, why in found.choices for subject in subjects
    ]  # fmt: skip


def suggestion(found: Suggestion, recipe: str) -> list[str]:
    """The lines about what to label, and what the choice rests on."""
    from pipelines.next import UNCERTAIN_FROM

    lines = [f"{found.labelled} of {found.groups} development groups have a label"]
    if found.partly_labelled:
        lines.append(f"{found.partly_labelled} of these have subjects without one; their group counts as labelled")
    if not found.choices:
        return [*lines, "every development group is labelled: nothing to suggest; ingest more groups"]
    chosen = [(subject, group, why) for group, subjects, why in found.choices for subject in subjects]
    lines += [
        f"{place}. {subject.subject_id}  group {group}: {why.says()}"
        for place, (subject, group, why) in enumerate(chosen, 1)
    ]
    lines.append(f"which file: selfsight whois {' '.join(row['subject_id'] for row in rows(found))}")
    if found.encoder is None:
        lines.append(f"no encoder is pretrained with this recipe and data, so random weights stood in: "
                     f"`selfsight pretrain {recipe}` makes a better choice possible")  # fmt: skip
    if found.model is None and found.labelled >= UNCERTAIN_FROM:
        lines.append(
            f"no model is fine-tuned on these labels, so uncertainty had no say: `selfsight finetune {recipe}`"
        )
    return lines


def handed_out(handed: Sequence[Handed], recipe: str, out: Path | None) -> list[str]:
    """The lines about cases that were written to a folder: where each answer belongs, and how it comes back."""
    if not handed:
        return []
    lines = [f"cases are in {out}, what to do is in its README.txt"]
    lines += [f"  {one.answer}" + (f"  (draft: {one.draft})" if one.draft else "") for one in handed]
    return [*lines, f"when they are drawn: selfsight ingest {recipe} {out}"]


def metered(meter: Reading | None, studied: bool, recipe: str) -> list[str]:
    """The lines of the label meter, or why there are none."""
    if meter is None:
        why = (
            "the newest study has too few label budgets of its main arm (three are needed)" if studied
            else f"no study of this recipe in the home; `selfsight study {recipe}` makes one"
        )  # fmt: skip
        return [f"label meter: {why}"]
    return [f"label meter: {meter.says()}", *[f"{meter.arm}: {worth.says()}" for worth in meter.worth]]
