"""`selfsight next`: what it says and answers, and how it ends."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from flows.next import next_to_label, rows, suggestion
from pipelines import next as verb
from pipelines.next import Choice, Suggestion

CHOICE = Choice(index=4, cluster_size=14, cluster_labelled=0, typicality=0.05, foreground=0.012, uncertainty=None)


@pytest.fixture
def here(monkeypatch):
    """The command in this process."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    app = typer.Typer()
    app.command("next")(next_to_label)
    yield lambda *words: CliRunner().invoke(app, [str(word) for word in words])
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def suggested(monkeypatch):
    """Instead of an archive: two subjects of one patient."""
    subject = type("Subject", (), {})
    subjects = []
    for name in ("a" * 16, "b" * 16):
        subjects.append(subject())
        subjects[-1].subject_id = name
    found = Suggestion((("c" * 16, tuple(subjects), CHOICE),), 9, 2, 1, None, None)
    monkeypatch.setattr(verb, "next_groups", lambda recipe, home, count: found)
    return found


def keep_study(home: Path, recipe: str = "brain_tumor") -> None:
    folder = home / "store" / "study" / "k"
    folder.mkdir(parents=True)
    cases = [
        {"arm": arm, "label_budget": k, "fold": 0, "subject_id": f"s{i}", "group_id": f"g{i}", "score": score + i / 100}
        for arm, start in (("scratch", 0.4), ("mae", 0.5))
        for k, score in ((3, start), (10, start + 0.1), (30, start + 0.15))
        for i in range(8)
    ]
    (folder / "study.json").write_text(json.dumps({"recipe": recipe, "table": [], "cases": cases}))


def test_next__reasons_files_and_no_study(here, tmp_path, suggested):
    done = here("brain_tumor", "--home", tmp_path / "home")
    assert done.exit_code == 0, done.stderr
    assert "2 of 9 development groups have a label" in done.stdout
    assert "1. aaaaaaaaaaaaaaaa" in done.stdout and "cluster of 14 groups, none of them covered before" in done.stdout
    assert "expected foreground 1.20%" in done.stdout
    assert f"selfsight whois {'a' * 16} {'b' * 16}" in done.stdout
    assert "random weights stood in" in done.stdout and "1 of these have subjects without one" in done.stdout
    assert "label meter: no study of this recipe" in done.stdout


def test_next__json_with_the_meter(here, tmp_path, suggested, capfd):
    keep_study(tmp_path / "home")
    assert here("brain_tumor", "--json", "--minutes-per-label", 20, "--home", tmp_path / "home").exit_code == 0
    answer = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert [row["subject_id"] for row in answer["next"]] == ["a" * 16, "b" * 16]
    assert (answer["labelled"], answer["groups"], answer["encoder"], answer["model"]) == (2, 9, None, None)
    assert answer["study"].endswith("store/study/k")
    meter = answer["meter"]
    assert meter["arm"] == "mae" and meter["labels_per_hour"] == 3 and meter["stop"] is False
    assert meter["gain_per_hour"]["low"] <= meter["gain_per_hour"]["mean"] <= meter["gain_per_hour"]["high"]
    assert [worth["labels"] for worth in meter["worth"]] == [3, 10, 30]


def test_next__the_meters_sentences(here, tmp_path, suggested):
    keep_study(tmp_path / "home")
    said = here("brain_tumor", "--minutes-per-label", 20, "--home", tmp_path / "home").stdout
    assert "with 2 labelled groups, the next hour of labelling (3 labels at 20 minutes)" in said
    assert "mae: 3 labels reach what 10.0" in said


def test_next__study_of_another_recipe_is_not_read(here, tmp_path, suggested):
    keep_study(tmp_path / "home", "hippocampus")
    assert "no study of this recipe" in here("brain_tumor", "--home", tmp_path / "home").stdout


def test_next__everything_labelled__says_so(here, tmp_path, monkeypatch):
    monkeypatch.setattr(verb, "next_groups", lambda *_: Suggestion((), 9, 9, 0, None, None))
    done = here("brain_tumor", "--home", tmp_path / "home")
    assert done.exit_code == 0 and "every development group is labelled" in done.stdout


def test_next__nothing_ingested__exit_2(here, tmp_path):
    done = here("brain_tumor", "--home", tmp_path / "home")
    assert done.exit_code == 2 and "selfsight ingest brain_tumor SOURCE" in done.stderr
    assert here("brain_tumour", "--home", tmp_path / "home").exit_code == 2
    assert here("brain_tumor", "--count", 0).exit_code == 2


@pytest.mark.parametrize(("labelled", "model", "says"), [(10, None, True), (9, None, False), (10, Path("m"), False)])
def test_suggestion__uncertainty_without_a_model_is_named(labelled, model, says):
    subject = type("Subject", (), {"subject_id": "s"})
    found = Suggestion((("g", (subject,), CHOICE),), 20, labelled, 0, Path("e"), model)
    assert any("uncertainty had no say" in line for line in suggestion(found, "brain_tumor")) == says


def test_rows__one_a_subject():
    subject = type("Subject", (), {"subject_id": "s"})
    [row] = rows(Suggestion((("g", (subject,), CHOICE),), 1, 0, 0, None, None))
    assert row == {"subject_id": "s", "group": "g", "cluster_size": 14, "cluster_labelled": 0, "typicality": 0.05,
                   "expected_foreground": 0.012, "uncertainty": None}  # fmt: skip
