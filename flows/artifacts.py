"""What a scheduled run shows on Prefect's pages: progress, figures, pictures of no patient; never a name or a path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)


class Progress:
    """Which verb of a run is at work, as a progress artifact."""

    def __init__(self, schedule: str, verbs: Sequence[str]) -> None:
        self._verbs = verbs
        made = create_progress_artifact(0.0, key=_key(schedule, "progress"), description=f"{schedule}: begins")
        assert isinstance(made, UUID)  # and no coroutine, since this is a synchronous flow
        self._id = made

    def begins(self, verb: str) -> None:
        """Says that the verbs before this one are done."""
        share = 100.0 * self._verbs.index(verb) / len(self._verbs)
        update_progress_artifact(self._id, share, description=verb)

    def ends(self) -> None:
        """Says that all are done."""
        update_progress_artifact(self._id, 100.0, description="done")


def show_figures(schedule: str, answer: Mapping[str, Any], home: Path) -> None:
    """A table of the metrics beside the trivial competitor, and a page with what came of the run.

    Args:
        schedule: its name.
        answer: of the steps of a whole run.
        home: paths below it are shown, and it is not.
    """
    from pipelines.run_picture import draw_run

    create_table_artifact(_rows(answer), key=_key(schedule, "figures"), description=_counts(answer["ingest"]))
    report = Path(answer["report"]).relative_to(home)
    lines = [
        f"# {schedule}", _counts(answer["ingest"]), "", f"- model `{answer['model']}`",
        f"- encoder `{answer['encoder'] or 'none'}`", f"- report `{report}` in the home: `selfsight ui` shows it", "",
        _picture(draw_run(answer), "training and figures"),
    ]  # fmt: skip
    create_markdown_artifact("\n".join(lines), key=_key(schedule, "page"), description=f"what {schedule} gave")


def show_drift(schedule: str, result: Mapping[str, Any], picture: Path) -> None:
    """A page with the verdict and its picture.

    Args:
        schedule: its name.
        result: see `pipelines.drift`.
        picture: PNG.
    """
    verdict = "ALARM: the new data differs, a retraining was started" if result["alarm"] else "no alarm"
    tests = [f"- {test.get('name') or 'all'}: p = {test['p']:.3g}" for test in result["tests"]]
    counted = f"{result['new']['subjects']} new subjects against {result['trained']['subjects']} trained on"
    lines = [f"# {schedule}: {verdict}", counted, "", *tests, "", _picture(picture.read_bytes(), "drift")]
    create_markdown_artifact("\n".join(lines), key=_key(schedule, "drift"), description=verdict)


def _rows(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    rival = answer["trivial"]
    return [
        {"metric": name, "model": _figure(figure), rival["name"]: _figure(rival["metrics"].get(name)), "n": figure["n"]}
        for name, figure in answer["metrics"].items()
    ]


def _figure(metric: Mapping[str, float | None] | None) -> str:
    if metric is None or metric["mean"] is None:
        return "-"
    if metric["low"] is None:
        return f"{metric['mean']:.3f}"
    return f"{metric['mean']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"


def _counts(taken: Mapping[str, int]) -> str:
    return ", ".join(
        f"{taken[name]} {name}" for name in ("found", "accepted", "refused", "labels", "ignored", "groups")
    )


def _picture(png: bytes, title: str) -> str:
    from pipelines.report_figures import data_uri

    return f"![{title}]({data_uri(png)})"


def _key(schedule: str, kind: str) -> str:
    """Prefect takes lower-case letters, digits and dashes."""
    return f"{schedule.replace('_', '-').lower()}-{kind}"
