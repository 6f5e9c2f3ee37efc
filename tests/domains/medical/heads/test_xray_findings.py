"""The findings head: loss and figures against references, unknown labels, views apart, no mirrored image."""

import io
import json

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import nn
from xray_files import chest

from domains.domain import Candidate, load
from domains.errors import Refused
from domains.medical.heads.xray_findings import HEAD
from domains.medical.recipes import RECIPES
from domains.medical.xray_findings import read_findings
from domains.medical.xray_images import read_pixels
from ssl_models.decoders.classification import PooledClassifier
from ssl_models.protocols import Batch

RECIPE = RECIPES["chest_xray"].changed({"data.label_classes": "[pneumonia, edema]"})
DOMAIN = load("medical")


def made(tmp_path, view="AP", cells=("1", "0"), shape=(128, 128)):
    """Contract, subject entry and label entry of one image."""
    tmp_path.mkdir(exist_ok=True)
    Image.fromarray(chest(0, ill=True, side=shape)).save(tmp_path / "x.png")
    facts = {"sex": "F", "age_band": "50-59", "view": view}
    findings = dict(zip(("pneumonia", "edema"), cells, strict=True))
    candidate = Candidate("x", "g", {"xray": tmp_path / "x.png"}, tmp_path, {"facts": facts, "findings": findings})
    contract, raw = DOMAIN.plan([DOMAIN.inspect(candidate)], RECIPE), DOMAIN.read(candidate, RECIPE)
    for name in ("entry", "label"):
        (tmp_path / name).mkdir()
    DOMAIN.write(raw, contract, tmp_path / "entry")
    DOMAIN.write_label(DOMAIN.read_label(candidate, raw, contract), contract, tmp_path / "label")
    return contract, tmp_path / "entry", tmp_path / "label"


def batch(targets):
    rows = len(targets)
    return Batch(crops=torch.zeros(rows, 1, 1, 8, 8), sample_seed=torch.arange(rows), group_id=("g",) * rows,
                 targets=torch.tensor(targets))  # fmt: skip


def test_loss__binary_cross_entropy_over_what_is_known():
    logits, nan = torch.tensor([[0.3, -2.0], [1.5, 0.7]], requires_grad=True), float("nan")
    loss = HEAD.loss(logits, batch([[1.0, nan], [0.0, 1.0]]))
    p = 1 / (1 + np.exp(-logits.detach().numpy().astype(np.float64)))
    assert loss.item() == pytest.approx(-(np.log(p[0, 0]) + np.log(1 - p[1, 0]) + np.log(p[1, 1])) / 3, rel=1e-5)
    loss.backward()
    assert logits.grad[0, 1] == 0 and torch.isfinite(logits.grad).all()
    nothing = HEAD.loss(logits, batch([[nan, nan], [nan, nan]]))
    assert nothing.item() == 0


class LeftMinusRight(nn.Module):
    """Says yes where the picture's left half is brighter, and maybe about the second finding."""

    def __init__(self):
        super().__init__()
        self.anything = nn.Parameter(torch.zeros(1))
        self.seen = []

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        half = x.shape[-1] // 2
        gap = x[..., half:].mean((1, 2, 3)) - x[..., :half].mean((1, 2, 3))
        return torch.stack([gap, torch.zeros_like(gap)], 1)


def test_predict__sees_sides_and_the_whole_image(tmp_path):
    contract, entry, _ = made(tmp_path / "square")
    model = LeftMinusRight()
    found = HEAD.predict(model, entry, contract)
    assert found.shape == (2,) and found.dtype == np.float32 and found[1] == 0.5
    assert found[0] < 0.5  # the heart, on the picture's right, is bright: a mean with the mirrored image would be 0.5
    assert model.seen == [(1, 1, 112, 112)] and model.training
    contract, entry, _ = made(tmp_path / "tall", shape=(200, 128))
    HEAD.predict(model, entry, contract)
    assert model.seen[-1] == (2, 1, 112, 112)


def test_trivial__view_age_and_sex_alone(tmp_path):
    by_view = {}
    for view in ("AP", "PA", None):
        contract, entry, _ = made(tmp_path / str(view), view=view)
        by_view[view] = HEAD.trivial(entry, contract)
    assert by_view["PA"][0] > by_view[None][0] > by_view["AP"][0] and by_view["AP"].shape == (2,)
    assert by_view["AP"][0] == pytest.approx(1 / (1 + np.exp(1.2 - 0.2 * 5)), rel=1e-5)
    (entry / "stated.json").write_text(json.dumps({"view": "AP", "age_band": "90+", "sex": "M"}))
    assert HEAD.trivial(entry, contract)[0] == pytest.approx(1 / (1 + np.exp(1.2 - 0.2 * 9 - 0.2)), rel=1e-5)


def test_score__brier_and_details_of_known_findings(tmp_path):
    _, entry, label = made(tmp_path, cells=("1", "-1"))
    metrics, details = HEAD.score(np.array([0.8, 0.9], np.float32), entry, label)
    assert metrics["brier"] == pytest.approx(0.04, rel=1e-4) and metrics["label_probability"] == pytest.approx(0.8)
    assert HEAD.primary_score(np.array([0.8, 0.9], np.float32), entry, label) == metrics[HEAD.ranked_by]
    assert details == {"probability": {"pneumonia": 0.8, "edema": 0.9}, "label": {"pneumonia": 1, "edema": None},
                       "sex": "F", "age_band": "50-59", "view": "AP"}  # fmt: skip
    assert json.loads(json.dumps(details)) == details
    assert HEAD.stratum(label) == 1


def details_of(probability, label, view):
    return [
        {"probability": {"pneumonia": float(p)}, "label": {"pneumonia": None if y is None else int(y)}, "view": v,
         "sex": "F", "age_band": None}
        for p, y, v in zip(probability, label, view, strict=True)
    ]  # fmt: skip


def test_pool__as_scikit_learn_also_within_views():
    rng = np.random.default_rng(0)
    label, view = rng.random(80) < 0.5, np.where(rng.random(80) < 0.5, "AP", "PA")
    probability = rng.random(80) * 0.6 + 0.4 * label * (view == "AP")
    found = HEAD.pool(details_of(probability, label, view))
    assert found["auroc"] == pytest.approx(roc_auc_score(label, probability))
    for name in ("AP", "PA"):
        inside = view == name
        assert found[f"auroc_{name.lower()}"] == pytest.approx(roc_auc_score(label[inside], probability[inside]))
    assert set(found) == {"auroc", "average_precision", "ece", "auroc_ap", "auroc_pa"}
    unknown = details_of([0.99], [None], ["AP"])
    assert HEAD.pool(details_of(probability, label, view) + unknown) == found


def test_pool__several_findings_are_averaged_and_named():
    one = {"probability": {"a": 0.9, "b": 0.2}, "label": {"a": 1, "b": 1}, "view": "AP"}
    two = {"probability": {"a": 0.1, "b": 0.7}, "label": {"a": 0, "b": 0}, "view": "AP"}
    found = HEAD.pool([one, two])
    assert (found["auroc_a"], found["auroc_b"], found["auroc"]) == (1.0, 0.0, 0.5) and np.isnan(found["auroc_pa"])


def test_summarise__subgroups_and_reliability():
    found = HEAD.summarise(details_of([0.9, 0.1, 0.8, 0.3], [1, 0, 0, 1], ["AP", "AP", "PA", "PA"]))
    assert found["by"]["view AP"] == {"cases": 2, "with finding": 1, "auroc": 1.0}
    assert found["by"]["view PA"]["auroc"] == 0.0 and found["by"]["age_band unknown"]["cases"] == 4
    assert sum(count for _, _, count in found["reliability"]) == 4
    assert json.dumps(found, allow_nan=False)


def test_summarise__threshold_on_all_cases_and_how_to_read_it():
    found = HEAD.summarise(details_of([0.9, 0.1, 0.8, 0.3], [1, 0, 0, 1], ["AP", "AP", "PA", "PA"]))
    assert found["threshold_for_90_percent_sensitivity"] == {"pneumonia": 0.3}
    assert any("optimistic" in sentence for sentence in found["notes"])
    none = HEAD.summarise(details_of([0.9], [0], ["AP"]))
    assert none["threshold_for_90_percent_sensitivity"] == {"pneumonia": None}


def test_decisions__over_what_is_known_by_finding():
    first = details_of([0.9, 0.1, 0.8, 0.3, 0.99], [1, 0, 0, 1, None], ["AP"] * 5)
    details = [d | {"half": i % 2} for i, d in enumerate(first)]
    found = HEAD.decisions(details)
    assert found == pytest.approx(HEAD.decisions(details[:4]), nan_ok=True) and found["answered"] == 0.75
    assert json.dumps(found) and not set(found) & set(HEAD.pool(details))
    two = [
        {"probability": d["probability"] | {"b": 0.5}, "label": d["label"] | {"b": 1}, "half": d["half"]}
        for d in details
    ]  # fmt: skip
    both = HEAD.decisions(two)
    assert (both["answered_pneumonia"], both["answered_b"], both["answered"]) == (0.75, 0.0, 0.375)


class BrightPlaces(nn.Module):
    """Two channels, bright and dark, eight times coarser; the first finding is bright, the second dark."""

    def __init__(self):
        super().__init__()
        self.decoder = PooledClassifier(width=2, classes=2)
        self.decoder.logits.weight.data = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])

    def encoder(self, x):
        coarse = nn.functional.avg_pool2d(x, 8)
        return [torch.cat([(coarse - 1.5).relu(), (-1.0 - coarse).relu() + 0.01], 1)]

    def forward(self, x):
        return self.decoder(self.encoder(x))


@pytest.mark.parametrize(("shape", "at"), [((128, 128), (28, 100)), ((240, 140), (200, 24)), ((140, 240), (36, 216))])
def test_evidence__lies_where_the_image_is_bright_in_the_source_pixels(tmp_path, shape, at):
    contract, entry, label = made(tmp_path, shape=shape)
    pixels = np.full(shape, 90, np.uint8)
    pixels[::2] += 20
    pixels[at[0] - 12 : at[0] + 12, at[1] - 12 : at[1] + 12] = 250
    Image.fromarray(pixels).save(tmp_path / "x.png")
    [candidate] = DOMAIN.open_inputs(tmp_path / "x.png", RECIPE)
    (tmp_path / "again").mkdir()
    DOMAIN.write(DOMAIN.read(candidate, RECIPE), contract, tmp_path / "again")
    model = BrightPlaces()
    found = HEAD.evidence(model, tmp_path / "again", contract)
    assert (
        found.shape[0] == 2 and found.dtype == np.float32 and found.max() == 1 and found.min() == 0 and model.training
    )
    prediction = np.array([0.6, 0.1], np.float32)
    files = DOMAIN.write_prediction(candidate, prediction, contract, tmp_path / "out", found)
    by_name = {file.name: file for file in files}
    assert set(by_name) == {"x_picture.png", "x_result.json", "x_evidence_pneumonia.png", "x_evidence_edema.png"}
    result = json.loads(by_name["x_result.json"].read_text())
    assert result["answer"] == {"pneumonia": "unknown", "edema": "no"} and result["unknown_below"] == 0.75
    assert result["evidence"]["pneumonia"] == "x_evidence_pneumonia.png" and "not where" in result["evidence_shows"]
    overlay = np.asarray(Image.open(by_name["x_evidence_pneumonia.png"]))
    assert overlay.shape == (*shape, 3)
    coloured = np.ptp(overlay.astype(int), axis=-1)
    place = np.argwhere(coloured > 60)
    assert abs(place.mean(0) - at).max() < 12
    assert coloured[at] > 60 and coloured[shape[0] - at[0], shape[1] - at[1]] == 0  # nothing lies over the rest
    assert overlay[at].max() > 200  # and the image is seen through it
    assert imread(io.BytesIO(HEAD.picture(entry, prediction, label, found))).ndim == 3
    assert read_pixels(tmp_path / "x.png")[0].shape == shape


def test_evidence__where_windows_overlap_their_mean(tmp_path):
    contract, entry, _ = made(tmp_path, shape=(200, 128))
    model = BrightPlaces()
    model.decoder.grad_cam = lambda features: torch.ones(1, 2, 4, 4)
    assert (HEAD.evidence(model, entry, contract) == 1).all()


def test_evidence__nothing_speaks_for_it(tmp_path):
    contract, entry, label = made(tmp_path)
    model = BrightPlaces()
    model.decoder.logits.weight.data.zero_()
    found = HEAD.evidence(model, entry, contract)
    assert not found.any() and np.isfinite(found).all()
    assert HEAD.picture(entry, np.array([0.6, 0.1], np.float32), label, found).startswith(b"\x89PNG")


def test_picture__with_and_without_a_label(tmp_path):
    _, entry, label = made(tmp_path)
    for given in (label, None):
        assert imread(io.BytesIO(HEAD.picture(entry, np.array([0.8, 0.1], np.float32), given, None))).ndim == 3


@pytest.mark.parametrize(("cells", "reason"), [(("2", "0"), "neither 1, 0, -1"), (("", "-1"), "unknown")])
def test_read_label__refused(tmp_path, cells, reason):
    with pytest.raises(Refused, match=reason):
        made(tmp_path, cells=cells)


def test_crops__carry_findings_for_each_crop(tmp_path):
    from domains.manifest import Subject

    contract, entry, label = made(tmp_path, cells=("1", "nan"))
    assert read_findings(label) == {"pneumonia": 1, "edema": None}
    subject = Subject(subject_id="s", group_id="g", split_bucket=0, entry="", content_digest="", facts={})
    source = DOMAIN.crops([entry], [label], [subject], contract, RECIPE, True)
    got = source.batch([0, 0], [1, 2], 2)
    assert got.crops.shape == (2, 2, 1, 112, 112) and got.targets.shape == (4, 2)
    assert (got.targets[:, 0] == 1).all() and got.targets[:, 1].isnan().all()
    assert not torch.equal(got.crops[0, 0], got.crops[0, 1])  # each crop is drawn by itself
    assert torch.equal(source.batch([0], [2], 1).crops[:, :1], got.crops[1:, :1])
    assert DOMAIN.crops([entry], None, [subject], contract, RECIPE, True).batch([0], [1]).targets is None
