"""Every domain by name, the example domain of the tests included: generate, read, write, cut, and account for files."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from domains.domain import CropSource, Domain, Scan, load, names
from domains.errors import Refused, UsageError
from domains.manifest import Contract, Subject
from domains.recipe import Recipe

EXAMPLE = Path(__file__).resolve().parents[1] / "example_domain"
SUBJECTS = 4
SEEDS = [11, 12, 13]


@pytest.fixture(autouse=True)
def example_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))


@dataclass(frozen=True)
class Opened:
    """A generated archive, read into entries."""

    domain: Domain
    recipe: Recipe
    folder: Path
    scan: Scan
    contract: Contract
    entries: list[Path]
    labels: list[Path]

    def crops(self, *, labelled: bool, augment: bool) -> CropSource:
        subjects = [
            Subject(subject_id=f"s{i}", group_id=f"g{i}", split_bucket=0, entry="", content_digest=str(i), facts={})
            for i in range(len(self.entries))
        ]
        labels = self.labels if labelled else None
        return self.domain.crops(self.entries, labels, subjects, self.contract, self.recipe, augment)


_opened: dict[str, Opened] = {}


@pytest.fixture(params=sorted({*names(), "surfaces"}))
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """One archive a domain for the whole module: reading it is the slow part."""
    if request.param not in _opened:
        domain = load(request.param)
        if domain.generate is None:
            pytest.skip(f"{domain.name} generates no archive")
        _opened[request.param] = open_archive(domain, tmp_path_factory.mktemp(domain.name))
    return _opened[request.param]


def open_archive(domain: Domain, folder: Path) -> Opened:
    recipe = next(iter(domain.recipes.values()))
    assert domain.generate is not None
    domain.generate(folder / "source", SUBJECTS, 5)
    scan = domain.scan(folder / "source", recipe)
    contract = domain.plan([domain.inspect(candidate) for candidate in scan.candidates], recipe)
    entries, labels = [], []
    for index, candidate in enumerate(scan.candidates):
        raw = domain.read(candidate, recipe)
        for kind in ("image", "label"):
            (folder / kind / str(index)).mkdir(parents=True)
        domain.write(raw, contract, folder / "image" / str(index))
        label = domain.read_label(candidate, raw, contract)
        domain.write_label(label, contract, folder / "label" / str(index))
        entries.append(folder / "image" / str(index))
        labels.append(folder / "label" / str(index))
    return Opened(domain, recipe, folder / "source", scan, contract, entries, labels)


def test_domain__names_agree(opened):
    domain = opened.domain
    assert domain.name == opened.contract.domain and domain.version == opened.contract.version
    for name, recipe in domain.recipes.items():
        assert recipe.name == name and recipe.domain == domain.name and recipe.head in domain.heads
        assert type(recipe).checked(recipe.model_dump(mode="json")) == recipe
    assert all(head.name == name for name, head in domain.heads.items())


def test_scan__every_file_is_a_candidate_a_label_or_ignored_with_a_reason(opened):
    files = {path for path in opened.folder.rglob("*") if path.is_file()}
    taken = [path for c in opened.scan.candidates for path in (*c.images.values(), c.label) if path is not None]
    assert len(taken) == len(set(taken))
    assert set(taken) | set(opened.scan.ignored) == files and not set(taken) & set(opened.scan.ignored)
    assert all(opened.scan.ignored.values())
    assert len(opened.scan.candidates) == SUBJECTS


def test_scan__no_folder(opened):
    with pytest.raises(UsageError):
        opened.domain.scan(opened.folder / "missing", opened.recipe)


def test_read__same_content_same_digest_and_no_two_alike(opened):
    digests = [opened.domain.read(c, opened.recipe).digest for c in opened.scan.candidates]
    again = [opened.domain.read(c, opened.recipe).digest for c in opened.scan.candidates]
    assert digests == again and len(set(digests)) == len(digests)


def test_read__garbage_is_refused_without_its_name(opened, tmp_path):
    candidate = opened.scan.candidates[0]
    path = next(iter(candidate.images.values()))
    broken = tmp_path / f"broken{''.join(path.suffixes)}"
    broken.write_bytes(b"this is not an image" * 40)
    images = {name: broken for name in candidate.images}
    with pytest.raises(Refused) as refusal:
        opened.domain.read(type(candidate)(name="x", group="y", images=images), opened.recipe)
    assert "broken" not in refusal.value.reason


def test_write__same_bytes_and_no_source_name(opened, tmp_path):
    candidate = opened.scan.candidates[0]
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        opened.domain.write(opened.domain.read(candidate, opened.recipe), opened.contract, folder)
    first, second = (
        {p.name: p.read_bytes() for p in sorted(f.iterdir())} for f in (tmp_path / "first", tmp_path / "second")
    )
    assert first == second
    assert not [name for name, content in first.items() if candidate.name.encode() in content]


@pytest.mark.parametrize("augment", [False, True])
def test_crops__shapes_follow_the_contract(opened, augment):
    batch = opened.crops(labelled=True, augment=augment).batch([0, 1, 0], SEEDS)
    shape = opened.contract.crop_shape
    assert batch.crops.shape == (3, batch.crops.shape[1], opened.contract.in_channels, *shape)
    assert batch.crops.dtype == torch.float32 and torch.isfinite(batch.crops).all()
    assert batch.targets.shape == (3, 1, *shape) and batch.targets.dtype == torch.int64
    assert batch.targets.min() >= 0 and batch.targets.max() < opened.contract.num_classes
    assert batch.foreground.shape == (3, batch.crops.shape[1], 1, *shape) and batch.foreground.dtype == torch.bool
    assert batch.group_id == ("g0", "g1", "g0") and batch.sample_seed.tolist() == SEEDS


def test_crops__drawn_from_the_seed_alone_whatever_the_batch(opened):
    source = opened.crops(labelled=True, augment=True)
    together, alone = source.batch([0, 1, 2], SEEDS), source.batch([1], SEEDS[1:2])
    assert torch.equal(together.crops[1], alone.crops[0]) and torch.equal(together.targets[1], alone.targets[0])
    other = source.batch([1], [999])
    assert not torch.equal(other.crops[0], alone.crops[0])


def test_crops__several_of_a_subject_are_the_one_alone_and_others(opened):
    source = opened.crops(labelled=True, augment=True)
    one, three = source.batch([0, 1], SEEDS[:2]), source.batch([0, 1], SEEDS[:2], 3)
    assert three.crops.shape == (2, 3, *one.crops.shape[2:]) and len(three.targets) == 6
    assert torch.equal(three.crops[:, :1], one.crops)
    assert not torch.equal(three.crops[:, 0], three.crops[:, 1])
    assert not torch.equal(three.crops[:, 1], three.crops[:, 2])
    assert torch.equal(source.batch([1], SEEDS[1:2], 3).crops, three.crops[1:])


def test_crops__unlabelled_carry_no_targets(opened):
    assert opened.crops(labelled=False, augment=True).batch([0], SEEDS[:1]).targets is None


def test_painter__paints_where_it_says_and_nowhere_else(opened):
    if opened.domain.painter is None:
        pytest.skip(f"{opened.domain.name} has no painter")
    batch = opened.crops(labelled=False, augment=False).batch([0, 1], SEEDS[:2])
    crops, foreground = batch.crops[:, 0], batch.foreground[:, 0]
    paint = opened.domain.painter(opened.contract, opened.recipe)
    painted, label = paint(crops, batch.spacing_mm, foreground, batch.sample_seed)
    again, _ = paint(crops, batch.spacing_mm, foreground, batch.sample_seed)
    assert torch.equal(painted, again) and label.dtype == torch.int64 and set(label.unique().tolist()) <= {0, 1}
    inside = (painted - crops).abs().mean(1, keepdim=True)
    assert label.any() and inside[label == 1].mean() > 10 * inside[label == 0].mean()


def test_heads__trivial_competitor_is_scored_and_shown(opened):
    for head in {opened.recipe.head: opened.domain.heads[opened.recipe.head]}.values():
        details = []
        for entry, label in zip(opened.entries, opened.labels, strict=True):
            prediction = head.trivial(entry, opened.contract)
            assert prediction.dtype == np.float32 and len(prediction) == opened.contract.num_classes
            assert np.allclose(prediction.sum(0), 1, atol=1e-4)
            metrics, detail = head.score(prediction, entry, label)
            assert head.ranked_by in metrics
            details.append(detail)
        assert head.primary_metric in metrics | (head.pool(details) if head.pool else {})
        assert isinstance(head.summarise(details), dict)
        assert imread(io.BytesIO(head.picture(opened.entries[0], prediction, opened.labels[0]))).ndim == 3


def test_write_prediction__opens_from_the_source_alone(opened, tmp_path):
    [candidate] = opened.domain.open_inputs(next(iter(opened.scan.candidates[0].images.values())), opened.recipe)
    raw = opened.domain.read(candidate, opened.recipe)
    opened.domain.write(raw, opened.contract, tmp_path)
    prediction = opened.domain.heads[opened.recipe.head].trivial(tmp_path, opened.contract)
    files = opened.domain.write_prediction(candidate, prediction, opened.contract, tmp_path / "out")
    assert files and all(file.is_file() and (tmp_path / "out") in file.parents for file in files)


def test_pictures__are_png(opened):
    panel = {"asked": np.zeros((2, 1, *opened.contract.crop_shape), np.float32)}
    for png in (opened.domain.picture(opened.entries[0]), opened.domain.panels(panel)):
        assert png.startswith(b"\x89PNG")


def test_generate__same_seed_same_archive(opened, tmp_path):
    for name in ("first", "second"):
        opened.domain.generate(tmp_path / name, 2, 3)
    first, second = (
        [
            opened.domain.read(c, opened.recipe).digest
            for c in opened.domain.scan(tmp_path / n, opened.recipe).candidates
        ]
        for n in ("first", "second")
    )
    assert first == second
