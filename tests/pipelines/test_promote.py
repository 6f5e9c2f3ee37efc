"""The gate lets a better model through and nothing else; each condition refuses alone; a killed promotion is mended."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from xray_files import write_archive

from domains.domain import find_recipe
from domains.errors import UsageError
from domains.store import Store
from flows.cli import app
from pipelines import promote as verb
from pipelines.evaluate import DETAILS, evaluate
from pipelines.finetune import finetune
from pipelines.gate import Challenge, Judged, Limits, Trial, judge
from pipelines.ingest import ingest
from pipelines.intervals import pooled, summary, without_nan
from pipelines.lineage import made_by, saw
from pipelines.models import open_model
from pipelines.pretrain import pretrain
from pipelines.register import register
from pipelines.registry import aliases_of, artifacts_folder, find_version, list_models, set_alias
from pipelines.trial import try_out

PATIENTS = 30
SMALL = {"data.max_crop": "32", "objective": "mae", "finetune.steps": "1", "pretrain.steps": "1"} | {
    f"{verb}.{key}": value for verb in ("pretrain", "finetune")
    for key, value in {"batch_size": "4", "warmup_steps": "0", "checkpoint_every": "1"}.items()
}  # fmt: skip
URI = "models:/chest-xray"
BY = {"approved_by": "Dr. A. Head", "reason": "weekly retraining"}


@dataclass
class Clinic:
    """A home with two registered models, and the keys of their evaluations."""

    home: Path
    first: str
    second: str


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Clinic:
    """Two models of hardly any training; what they said of the held-out patients is then made good and better."""
    folder = tmp_path_factory.mktemp("gate")
    write_archive(folder / "clinic", PATIENTS)
    recipe, keys = find_recipe("chest_xray")[1].changed(SMALL), []
    with pytest.MonkeyPatch.context() as own:
        own.setenv("SELFSIGHT_KEY", str(folder / "key"))
        ingest(folder / "clinic", recipe, folder / "home")
        encoder = pretrain(recipe, folder / "home").folder
        for seed, wrong in (("1", 0.1), ("2", 0.0)):
            model = finetune(recipe.changed({"seed": seed}), folder / "home", encoder=encoder)
            judged = evaluate(model.folder, folder / "home")
            says(judged.folder, wrong)
            register(judged.folder, folder / "home")
            keys.append(judged.folder.name)
    return Clinic(folder / "home", *keys)


@pytest.fixture
def clinic(lived: Clinic, tmp_path: Path) -> Iterator[Clinic]:
    """That home; afterwards its aliases, decisions and evaluations are as they were."""
    judged = lived.home / "store" / "evaluate"
    shutil.copytree(judged, tmp_path / "kept")
    yield lived
    shutil.rmtree(judged)
    shutil.move(tmp_path / "kept", judged)
    shutil.rmtree(lived.home / "decisions", ignore_errors=True)
    for name, version in (("chest-xray", "2"), ("chest-xray-encoder", "1")):
        for alias in aliases_of(lived.home, name):
            set_alias(lived.home, name, alias, None)
        set_alias(lived.home, name, "challenger", version)


@pytest.fixture(scope="module")
def trial(lived: Clinic) -> Trial:
    """What a version of the home really does in a process of its own."""
    version = find_version(lived.home, f"{URI}/2")
    artifacts = artifacts_folder(lived.home, version)
    model = next(file.parent for file in artifacts.rglob("model.json"))
    return try_out(artifacts, model, next(Store(lived.home).path("ingest", "x").parent.glob("[0-9a-f]*")))


@pytest.fixture
def tried(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> Trial:
    """Every promotion takes that trial for its own: it costs ten seconds, and the models are alike."""
    monkeypatch.setattr(verb, "try_out", lambda *_: trial)
    return trial


def says(folder: Path, wrong: float) -> None:
    """Rewrites what a model said of every case: the truth, but for a share of the cases, with all figures anew."""
    result, details = (json.loads((folder / name).read_text()) for name in ("evaluation.json", DETAILS))
    for number, one in enumerate(details):
        lies = (number % 10) < 10 * wrong
        for name, label in one["metrics"]["label"].items():
            one["metrics"]["probability"][name] = abs((label or 0) - lies) * 0.9 + number * 1e-4
            one["trivial"]["probability"][name] = 1 - (label or 0)  # a competitor that any model is above
    pool = find_recipe("chest_xray")[0].heads[find_recipe("chest_xray")[1].head].pool
    assert pool is not None
    groups = [one["group_id"] for one in details]
    mine, theirs = (pooled(pool, [one[who] for one in details], groups) for who in ("metrics", "trivial"))
    result["metrics"] |= {name: summary(draws, groups) for name, draws in mine.items()}
    result["paired"] = {"auroc": summary(mine["auroc"] - theirs["auroc"], groups)}
    (folder / "evaluation.json").write_text(json.dumps(without_nan(result)))
    (folder / DETAILS).write_text(json.dumps(details))


@pytest.fixture
def challenge(lived: Clinic, trial: Trial) -> Challenge:
    """The second model against the first; nothing speaks against it."""
    store = Store(lived.home)
    version = find_version(lived.home, f"{URI}/2")
    loaded = open_model(verb.weights_folder(lived.home, version))
    judged, champion = (verb._judged(key, loaded, store) for key in (lived.second, lived.first))
    card = (artifacts_folder(lived.home, version) / "MODEL_CARD.md").read_text()
    return Challenge(loaded.info["lineage"], loaded.info["sha256"], judged, champion, True, trial, card, "A", "better")


def failed(challenge: Challenge, limits: Limits | None = None) -> dict[str, str]:
    """Names of the conditions that are not met, and what they say."""
    return {one.name: one.says for one in judge(challenge, limits or Limits()) if not one.met}


def changed(judged: Judged | None, **fields: Any) -> Judged:
    assert judged is not None
    return replace(judged, result={**judged.result, **fields})


def test_judge__a_better_model_meets_every_condition(challenge: Challenge) -> None:
    conditions = judge(challenge, Limits())
    assert [one.name for one in conditions if not one.met] == [], conditions
    assert {one.name for one in conditions} == {
        "approval", "evaluation", "groups", "floor", "subgroups", "held_out", "not_worse", "margin", "subgroups_kept",
        "pickles", "latency", "size", "card",
    }  # fmt: skip
    assert "View AP" in next(one.says for one in conditions if one.name == "subgroups")


def _learned(role: str) -> Callable[[Challenge], Challenge]:
    def spoil(one: Challenge) -> Challenge:
        assert one.judged is not None
        return replace(one, lineage={**one.lineage, role: [one.judged.result["cases"][0]["group_id"]]})

    return spoil


def _first_champion(one: Challenge) -> Challenge:
    return replace(one, champion=None, has_champion=False)


def _paired_with_trivial(one: Challenge) -> Challenge:
    below = {"auroc": {"mean": -0.01, "low": -0.1, "high": 0.1, "n": 9}}
    return replace(one, judged=changed(one.judged, paired=below))


def _worse_on(one: Challenge, value: str) -> Challenge:
    """The challenger without its right answers where the view is `value`."""
    assert one.judged is not None
    details = json.loads(json.dumps(one.judged.details))
    for case in one.judged.result["cases"]:
        if case["facts"]["view"] == value:
            told = details[case["subject_id"]]["metrics"]
            told["probability"] = {name: 1 - p for name, p in told["probability"].items()}
    return replace(one, judged=replace(one.judged, details=details))


ALONE: dict[str, tuple[Callable[[Challenge], Challenge], Limits, str]] = {
    "approval": (lambda one: replace(one, reason="  "), Limits(), "--reason"),
    "evaluation": (lambda one: replace(one, judged=changed(one.judged, weights_sha256="0")), Limits(), "other weights"),
    "evaluation ": (lambda one: replace(one, judged=None), Limits(), "no stored evaluation"),
    "groups": (_learned("label_groups"), Limits(), "1 of the .* learned from with their labels"),
    "groups ": (_learned("pretrain_groups"), Limits(), "transductive"),
    "groups  ": (lambda one: replace(one, judged=changed(one.judged, within_group=True)), Limits(), "within a group"),
    "floor": (_paired_with_trivial, Limits(), "must be above"),
    "subgroups": (lambda one: _first_champion(_worse_on(one, "AP")), Limits(), "not above .*View AP"),
    "held_out": (lambda one: replace(one, champion=changed(one.champion, judged_digest="x")), Limits(), "other cases"),
    "held_out ": (lambda one: replace(one, champion=None), Limits(), "--held-out-of"),
    "margin": (lambda one: one, Limits(margin=0.9), r"auroc \+0\.\d+ .*must be \+0\.900"),
    "pickles": (lambda one: replace(one, trial=replace(one.trial, error="cloudpickle")), Limits(), "cloudpickle"),
    "latency": (lambda one: one, Limits(seconds=1e-6), "s a subject"),
    "latency ": (lambda one: replace(one, trial=replace(one.trial, seconds=None)), Limits(), "no held-out subject"),
    "size": (lambda one: one, Limits(megabytes=1e-3), "MB of weights"),
    "card": (lambda one: replace(one, card=""), Limits(), "no model card"),
    "card ": (lambda one: replace(one, card="of 0"), Limits(), "of other weights"),
}


@pytest.mark.parametrize("name", ALONE)
def test_judge__each_condition_refuses_alone_and_says_why(challenge: Challenge, name: str) -> None:
    spoil, limits, why = ALONE[name]
    found = failed(spoil(challenge), limits)
    assert list(found) == [name.strip()]
    assert re.search(why, found[name.strip()]), found


def test_judge__worse_than_the_champion_in_all_and_in_one_view(challenge: Challenge) -> None:
    turned = replace(challenge, judged=challenge.champion, champion=challenge.judged)
    turned = replace(turned, judged=changed(turned.judged, weights_sha256=turned.weights_sha256))
    assert {"not_worse", "margin", "subgroups_kept"} <= failed(turned).keys()
    found = failed(_worse_on(challenge, "AP"), Limits(margin=-1.0, worse_at_most=1.0, above_trivial=-1.0))
    assert list(found) == ["subgroups_kept"] and "View AP" in found["subgroups_kept"]
    assert "View PA" not in found["subgroups_kept"]


def test_judge__the_same_model_twice_is_not_worse_and_not_better(challenge: Challenge) -> None:
    found = failed(replace(challenge, champion=challenge.judged))
    assert list(found) == ["margin"] and "+0.000 (+0.000 to +0.000" in found["margin"]


def test_judge__everything_wrong_is_told_at_once(challenge: Challenge) -> None:
    bad = _learned("pretrain_groups")(replace(_paired_with_trivial(challenge), approved_by="", card=""))
    bad = replace(bad, champion=bad.judged, trial=replace(bad.trial, error="no"))
    found = failed(bad, Limits(megabytes=0, seconds=0))
    assert set(found) == {"approval", "groups", "floor", "margin", "pickles", "latency", "size", "card"}


@pytest.mark.usefixtures("tried")
def test_promote__first_champion_then_a_better_one_with_its_encoder_then_back(clinic: Clinic) -> None:
    home = clinic.home
    first = verb.promote(f"{URI}/1", home, **BY)
    assert first["accepted"] and first["champion_before"] is None, first["conditions"]
    assert not {"held_out", "margin"} & {one["name"] for one in first["conditions"]}
    assert aliases_of(home, "chest-xray") == {"champion": "1", "challenger": "2"}
    assert aliases_of(home, "chest-xray-encoder") == {"champion": "1"}
    with pytest.raises(UsageError, match="no champion before"):
        verb.rollback("chest-xray", home, **BY)
    second = verb.promote(f"{URI}@challenger", home, **BY)
    assert second["accepted"] and second["limits"]["margin"] == 0.01 and second["measured"]["seconds"] > 0
    assert aliases_of(home, "chest-xray") == {"champion": "2", "previous_champion": "1"}
    again = verb.promote(f"{URI}@champion", home, **BY)
    assert [one["name"] for one in again["conditions"] if not one["met"]] == ["margin"] and not again["accepted"]
    assert aliases_of(home, "chest-xray") == {"champion": "2", "previous_champion": "1"}
    back = verb.rollback("chest-xray", home, approved_by="B", reason="too many false alarms")
    assert aliases_of(home, "chest-xray") == {"champion": "1", "previous_champion": "1"}
    assert back["moves"] == [("chest-xray", "champion", "1")]
    with pytest.raises(UsageError, match="no champion before"):
        verb.rollback("chest-xray", home, **BY)
    kept = verb.decisions_of(home, "chest-xray")
    assert [(one["action"], one["accepted"], one["version"]) for one in kept] == [
        ("promote", True, 1), ("promote", True, 2), ("promote", False, 2), ("rollback", True, 1),
    ]  # fmt: skip
    one, two = (model for model in list_models(home) if model["name"] == "chest-xray")
    assert one["tags"]["approved_by"] == "B" and two["tags"]["last_decision"].startswith("promote refused")
    artifacts = home / "mlflow-artifacts" / "chest_xray" / two["run_id"] / "artifacts" / "decisions"
    assert {Path(one["file"]).name for one in kept if one["version"] == 2} <= {
        file.name for file in artifacts.iterdir()
    }
    text = "".join(file.read_text() for file in (home / "decisions").rglob("*.json"))
    cases = json.loads((home / "store/evaluate" / clinic.first / "evaluation.json").read_text())["cases"]
    assert not [case for case in cases if case["group_id"] in text or case["subject_id"] in text]


class Killed(BaseException):
    pass


@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize("then", ["promote", "rollback"])
@pytest.mark.parametrize("moves", range(4))
def test_promote__killed_after_any_move__finished_or_undone(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, moves: int, then: str
) -> None:
    home, before = clinic.home, {"champion": "1", "challenger": "2"}
    verb.promote(f"{URI}/1", home, **BY)
    assert aliases_of(home, "chest-xray") == before, verb.decisions_of(home, "chest-xray")[-1]
    left = moves

    def dying(real: Callable[..., None]) -> Callable[..., None]:
        def step(*told: Any) -> None:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            real(*told)

        return step

    with monkeypatch.context() as own, pytest.raises(Killed):
        for name in ("set_alias", "note_decision"):  # previous_champion, champion, challenger; then the notes
            own.setattr(verb, name, dying(getattr(verb, name)))
        verb.promote(f"{URI}/2", home, **BY)
    assert aliases_of(home, "chest-xray")["champion"] == ("1" if moves < 2 else "2")
    assert verb.unfinished(home) and (moves == 3) == (len(verb.decisions_of(home, "chest-xray")) == 2)
    if then == "promote":
        assert verb.promote(f"{URI}/2", home, **BY)["accepted"]
        assert aliases_of(home, "chest-xray") == {"champion": "2", "previous_champion": "1"}
    else:
        verb.rollback("chest-xray", home, **BY)
        assert aliases_of(home, "chest-xray") == {"champion": "1", "previous_champion": "1"}
    assert verb.unfinished(home) is None and len(verb.decisions_of(home, "chest-xray")) == (
        2 if then == "promote" else 3
    )


@pytest.mark.slow
@pytest.mark.usefixtures("tried")
def test_promote__kill_9_between_the_two_moves__a_champion_all_the_time_and_the_next_one_ends_it(
    clinic: Clinic,
) -> None:
    verb.promote(f"{URI}/1", clinic.home, **BY)
    root = Path(__file__).resolve().parents[2]
    words = ["promote", f"{URI}/2", "--approved-by", BY["approved_by"], "--reason", BY["reason"]]
    killed = subprocess.run(  # what it tries out takes ten seconds, as it does for a user
        [sys.executable, root / "tests/faulty.py", "kill:pipelines.promote:set_alias:2", *words, "--home", clinic.home],
        capture_output=True, text=True, timeout=600, env=os.environ | {"PYTHONPATH": str(root)},
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert aliases_of(clinic.home, "chest-xray") == {"champion": "1", "previous_champion": "1", "challenger": "2"}
    assert len(verb.decisions_of(clinic.home, "chest-xray")) == 1
    half = verb.unfinished(clinic.home)
    assert half is not None and half["accepted"] and half["model"] == f"{URI}/2"
    ended = verb.promote(f"{URI}/2", clinic.home, **BY)
    assert (ended["file"], ended["decided_at"]) == (half["file"], half["decided_at"]), "that decision, no second one"
    assert aliases_of(clinic.home, "chest-xray") == {"champion": "2", "previous_champion": "1"}
    assert aliases_of(clinic.home, "chest-xray-encoder") == {"champion": "1"}
    assert verb.unfinished(clinic.home) is None and len(verb.decisions_of(clinic.home, "chest-xray")) == 2


@pytest.mark.usefixtures("tried", "calm")
def test_promote_command__refused_with_exit_4_and_every_reason(clinic: Clinic) -> None:
    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, [*words, "--home", str(clinic.home)])
        return done.exit_code, done.stdout + done.stderr

    says(clinic.home / "store/evaluate" / clinic.first, 1.0)
    code, said = run("promote", f"{URI}/1", "--approved-by", " ", "--reason", "x", "--max-megabytes", "0.001")
    assert code == 4 and "4 of 9 conditions fail" in said
    [decision] = verb.decisions_of(clinic.home, "chest-xray")
    failing = [one["name"] for one in decision["conditions"] if not one["met"]]
    assert failing == ["approval", "floor", "subgroups", "size"] and all(f"FAILED {name}" in said for name in failing)
    assert aliases_of(clinic.home, "chest-xray") == {"challenger": "2"}
    code, said = run("promote", f"{URI}/2", "--approved-by", "A", "--reason", "x")
    assert code == 0 and "models:/chest-xray@champion is models:/chest-xray/2 (before: none)" in said
    code, said = run("rollback", "chest-xray", "--approved-by", "A", "--reason", "x")
    assert code == 2 and "nothing to go back to" in said


@pytest.mark.usefixtures("tried", "calm")
def test_lineage__what_made_it_and_who_saw_a_patient(clinic: Clinic) -> None:
    verb.promote(f"{URI}/1", clinic.home, **BY)
    verb.promote(f"{URI}/2", clinic.home, **BY)
    model = find_version(clinic.home, f"{URI}@champion")
    info = open_model(verb.weights_folder(clinic.home, model)).info
    found = made_by(f"{URI}@champion", clinic.home)
    assert found["model"]["sha256"] == info["sha256"] and found["model"]["aliases"] == ["champion"]
    assert found["manifest"]["key"] == info["lineage"]["manifest"] and found["manifest"]["groups"] == PATIENTS
    assert found["encoder"]["sha256"] == info["lineage"]["encoder_sha256"]
    assert (found["encoder"]["uri"], found["encoder"]["aliases"]) == (f"{URI}-encoder/1", ["champion"])
    assert found["evaluation"]["key"] == clinic.second and found["evaluation"]["judged_digest"]
    assert [(one["model"], one["accepted"]) for one in found["decisions"]] == [(f"{URI}/2", True)]
    assert [one["model"] for one in made_by(f"{URI}/1", clinic.home)["decisions"]] == [f"{URI}/1", f"{URI}/2"]
    assert made_by(f"{URI}-encoder@champion", clinic.home)["encoder"] is None
    judged = json.loads((clinic.home / "store/evaluate" / clinic.second / "evaluation.json").read_text())["cases"][0]
    for group, kinds in ((info["lineage"]["label_groups"][0], {"encoder", "model"}), (judged["group_id"], {"model"})):
        seen = saw(group, clinic.home)
        assert {one.kind for one in seen} == kinds
        assert f"{URI}/2 (champion)" in {uri for one in seen for uri in one.registered}
    asked = {("registry",): "approved by Dr. A. Head", ("lineage", f"{URI}/1"): "decision "}
    asked |= {("lineage", "--group", judged["group_id"]): "judged with it in store/evaluate"}
    for words, says_so in asked.items():
        done = CliRunner().invoke(app, [*words, "--home", str(clinic.home)])
        assert done.exit_code == 0 and says_so in done.stdout, done.stderr
    assert CliRunner().invoke(app, ["lineage", "--home", str(clinic.home)]).exit_code == 2


def test_evaluate__held_out_of_another_model__has_its_digest(clinic: Clinic) -> None:
    one, two = (verb.weights_folder(clinic.home, find_version(clinic.home, f"{URI}/{n}")) for n in "12")
    judged = evaluate(one, clinic.home, held_out_of=two)
    assert judged.cached and judged.result["judged_digest"] == evaluate(two, clinic.home).result["judged_digest"]


@pytest.mark.slow
def test_try_out__a_pickle_is_not_loaded(tmp_path: Path, lived: Clinic) -> None:
    import mlflow.pyfunc

    class Evil(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: list[str]) -> list[str]:
            return model_input

    mlflow.pyfunc.save_model(str(tmp_path / "evil"), python_model=Evil(), pip_requirements=[])
    model = next(verb.artifacts_folder(lived.home, find_version(lived.home, f"{URI}/2")).rglob("model.json")).parent
    trial = try_out(tmp_path / "evil", model, None)
    assert "MLFLOW_ALLOW_PICKLE_DESERIALIZATION" in trial.error and trial.seconds is None
