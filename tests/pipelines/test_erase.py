"""After erase a home holds nothing of the group, no ingest brings it back, what saw it is named; killed, it goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
from xray_files import write_archive

from domains.domain import find_recipe
from domains.erased import read_erased
from domains.errors import NothingUsable, UsageError
from domains.identity import Identity
from domains.manifest import read_manifest
from domains.recipe import Recipe
from domains.splits import split
from domains.store import STAGE_VERSIONS, Store, locked
from pipelines import erase as verb
from pipelines.arms import Arm
from pipelines.cells import Cell, run_cell
from pipelines.dataset import open_dataset
from pipelines.embed import embeddings
from pipelines.evaluate import evaluate
from pipelines.finetune import finetune
from pipelines.ingest import ingest
from pipelines.models import open_model
from pipelines.pretrain import pretrain
from pipelines.register import register
from pipelines.registry import resolve
from pipelines.report import write_report
from pipelines.tracking import sync

PATIENTS = 14
SMALL = {"data.max_crop": "32", "objective": "mae", "finetune.steps": "2", "pretrain.steps": "2"} | {
    f"{verb}.{key}": value for verb in ("pretrain", "finetune")
    for key, value in {"batch_size": "4", "warmup_steps": "1", "checkpoint_every": "1"}.items()
}  # fmt: skip
SCRATCH = Arm("scratch", "scratch", "From random weights.", "scratch")


@dataclass
class Lived:
    """A home in which everything has happened, and two of its groups."""

    home: Path
    key: Path
    clinic: Path
    recipe: Recipe
    learned: str
    judged: str
    model: str


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    folder = tmp_path_factory.mktemp("lived")
    home, key, clinic = folder / "home", folder / "key" / "key", folder / "clinic"
    write_archive(clinic, PATIENTS)
    recipe = find_recipe("chest_xray")[1].changed(SMALL)
    with pytest.MonkeyPatch.context() as own:
        own.setenv("SELFSIGHT_KEY", str(key))
        ingest(clinic, recipe, home)
        encoder = pretrain(recipe, home)
        model = finetune(recipe, home, encoder=encoder.folder)
        judged = evaluate(model.folder, home)
        write_report(home, evaluation=judged.folder)
        register(judged.folder, home)
        manifest, _ = open_dataset(recipe, home)
        embeddings(encoder.folder, home, recipe, manifest, manifest.subjects)
        run_cell(Cell(SCRATCH, 4, "1/2", recipe.changed({"fold": "1/2"}).to_yaml(), str(home)))
    parts = split(manifest.subjects)
    return Lived(home, key, clinic, recipe, parts.development[0].group_id, parts.test[0].group_id, model.folder.name)


@pytest.fixture
def home(lived: Lived, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """That home with its key; afterwards it is as it was, in its place, since the registry knows places."""
    monkeypatch.setenv("SELFSIGHT_KEY", str(lived.key))
    kept = tmp_path_factory.mktemp("kept")
    places = {lived.home: kept / "home", lived.key.parent: kept / "key"}
    for place, copy in places.items():
        shutil.copytree(place, copy)
    yield lived.home
    for place, copy in places.items():
        shutil.rmtree(place)
        shutil.move(copy, place)


def traces(home: Path, ids: set[str], arrays: set[str]) -> list[str]:
    """Files of a home, but for the list of erased groups, that name one of the ids or hold one of the arrays."""
    files = [path for path in home.rglob("*") if path.is_file() and path != home / "erased.json"]
    named = [p for p in files if any(i in str(p.relative_to(home)) or i.encode() in p.read_bytes() for i in ids)]
    return [str(path.relative_to(home)) for path in {*named, *(p for p in files if _digest(p) in arrays)}]


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def known(home: Path, recipe: Recipe, group: str) -> tuple[set[str], set[str]]:
    """Ids of a group and its subjects, and the digests of the files that hold its arrays."""
    manifest, labels = open_dataset(recipe, home)
    subjects = [s for s in manifest.subjects if s.group_id == group]
    store = Store(home)
    arrays = {_digest(store.path("ingest", s.entry) / "image.b2nd") for s in subjects}
    assert arrays and all(store.get("label", labels.entries[s.subject_id]) for s in subjects)
    return {group, *(s.subject_id for s in subjects)}, arrays


@pytest.mark.parametrize("role", ["learned", "judged"])
def test_erase__nothing_is_left_and_what_saw_it_is_named(lived: Lived, home: Path, role: str) -> None:
    group: str = getattr(lived, role)
    ids, arrays = known(home, lived.recipe, group)
    names = Identity().whois(ids)
    assert len(names) == len(ids) and len(traces(home, ids, arrays)) > 5
    plan = verb.plan_erasure(group, home)
    seen = {one.kind: one for one in plan.seen}
    if role == "learned":
        assert seen["encoder"].learned == ("pretrain_groups",) and seen["model"].learned == ("label_groups", "pretrain_groups")  # fmt: skip  # noqa: E501
        assert seen["encoder"].registered == ("models:/chest-xray-encoder/1 (challenger)",)
    else:
        assert list(seen) == ["model"] and not seen["model"].learned and len(seen["model"].judged) == 1
    assert seen["model"].registered == ("models:/chest-xray/1 (challenger)",)
    assert verb.erase(plan, home) == []
    assert traces(home, ids, arrays) == []
    assert Identity().whois(ids) == {} and not any(p in Identity()._book.read_text() for p in names.values())
    assert not list((home / "store").glob("embed/*")) and not any(Store(home).get(*one) for one in plan.entries)
    assert {stage for stage, _ in plan.entries} == {"ingest", "label"}
    assert list(read_erased(home).groups) == [group] and verb.plan_erasure(group, home).seen == plan.seen
    assert bool(list(home.rglob("examples-*.png"))) == (role == "judged")
    assert sync(home)["records"] == 0


def test_erase__the_home_goes_on_without_it(lived: Lived, home: Path) -> None:
    before = open_model(resolve(home, "models:/chest-xray@challenger"))
    for group in (lived.learned, lived.judged):
        verb.erase(verb.plan_erasure(group, home), home)
    manifest, labels = open_dataset(lived.recipe, home)
    assert {lived.learned, lived.judged}.isdisjoint(s.group_id for s in manifest.subjects)
    assert set(labels.entries) == {s.subject_id for s in manifest.subjects}
    counts = manifest.counts()
    assert counts["found"] == counts["accepted"] + counts["refused"] + counts["labels"] + counts["ignored"]
    # an old model is found, its lineage keeps its length, and it can be judged and reported again
    after = open_model(resolve(home, "models:/chest-xray@challenger"))
    groups = after.info["lineage"]["label_groups"]
    assert "erased" in groups and len(groups) == len(before.info["lineage"]["label_groups"])
    judged = evaluate(after.folder, home)
    assert not judged.cached and lived.judged not in {case["group_id"] for case in judged.result["cases"]}
    assert write_report(home, evaluation=judged.folder).is_file()
    encoder = pretrain(lived.recipe, home)
    assert not encoder.cached
    again = open_model(finetune(lived.recipe, home, encoder=encoder.folder).folder)
    assert "erased" not in again.info["lineage"]["label_groups"]


def test_erase__no_ingest_brings_it_back_but_a_lifted_one(lived: Lived, home: Path, tmp_path: Path) -> None:
    ids, arrays = known(home, lived.recipe, lived.learned)
    digest = open_dataset(lived.recipe, home)[0].digest
    verb.erase(verb.plan_erasure(lived.learned, home), home)
    left = open_dataset(lived.recipe, home)[0]
    again = read_manifest(ingest(lived.clinic, lived.recipe, home).manifest)
    assert again.digest == left.digest != digest
    assert traces(home, ids, arrays) == [] and Identity().whois(ids) == {}
    # nor under another name, nor by an evaluation
    moved = tmp_path / "moved"
    shutil.copytree(lived.clinic, moved)
    other = lived.recipe.changed({"data.max_crop": "48"})
    taken = read_manifest(ingest(moved, other, home).manifest)
    assert len(taken.subjects) == len(left.subjects) and traces(home, set(), arrays) == []
    path = {Path(n) for n in Identity().whois(r.file_id for r in taken.records if "erased" in r.reason).values()}
    assert path == set()
    with pytest.raises(UsageError, match="not among the erased"):
        verb.lift("0" * 16, home)
    verb.lift(lived.learned, home)
    assert lived.learned in open_model(Store(home).path("finetune", lived.model)).info["lineage"]["label_groups"]
    assert ingest(lived.clinic, lived.recipe, home).manifest_digest == digest


def test_erase__killed_anywhere_it_finishes(lived: Lived, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    ids, arrays = known(home, lived.recipe, lived.learned)
    plan = verb.plan_erasure(lived.learned, home)

    def dies(*_: object) -> None:
        raise Killed

    for name in ("_take_off_the_lists", "sweep"):
        with monkeypatch.context() as killed:
            killed.setattr(verb, name, dies)
            with pytest.raises(Killed):
                verb.erase(verb.plan_erasure(lived.learned, home), home)
        assert traces(home, ids, arrays) and read_erased(home).unfinished
        with pytest.raises(UsageError, match="finish that one first"):
            verb.plan_erasure(lived.judged, home)
    remove = Store.remove
    with monkeypatch.context() as killed, pytest.raises(Killed):
        killed.setattr(Store, "remove", lambda s, stage, key: dies() if stage == "label" else remove(s, stage, key))
        verb.erase(verb.plan_erasure(lived.learned, home), home)
    again = verb.plan_erasure(lived.learned, home)
    assert again.seen == plan.seen and set(again.files) == set(plan.files)
    assert verb.erase(again, home) == [] and traces(home, ids, arrays) == []
    assert not read_erased(home).unfinished


def test_erase__refused_while_something_runs_and_for_what_is_no_group(lived: Lived, home: Path) -> None:
    plan = verb.plan_erasure(lived.learned, home)
    with locked(home / "locks" / "pretrain-00"), pytest.raises(UsageError, match="something is running"):
        verb.erase(plan, home)
    assert not read_erased(home).groups
    with pytest.raises(UsageError, match=f"subject of group {lived.learned}"):
        verb.plan_erasure(plan.subjects[0], home)
    with pytest.raises(UsageError, match="no group"):
        verb.plan_erasure("0" * 16, home)


def test_stages__each_has_a_way_for_a_group_to_leave_it() -> None:
    """A new stage belongs to one of these, or into `erase`."""
    removed, listed, swept = {"ingest", "label"}, {"manifest", "labels"}, {"evaluate", "scores", "study"}
    named = {"pretrain", "finetune", "given"}
    assert set(STAGE_VERSIONS) == removed | listed | swept | named | set(verb.CACHES)


def test_erase__the_only_patient_of_a_folder(lived: Lived, home: Path, tmp_path: Path) -> None:
    one = tmp_path / "one"
    write_archive(one, 1)
    group = next(s.group_id for s in read_manifest(ingest(one, lived.recipe, tmp_path / "new").manifest).subjects)
    verb.erase(verb.plan_erasure(group, tmp_path / "new"), tmp_path / "new")
    with pytest.raises(NothingUsable, match="its group was erased"):
        ingest(one, lived.recipe, tmp_path / "new")
    journal = json.loads((tmp_path / "new" / "erased.json").read_text())
    assert list(journal["groups"]) == [group]
