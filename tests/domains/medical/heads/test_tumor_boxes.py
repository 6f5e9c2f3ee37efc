"""Boxes of whole subjects from windows, judged by hand, shown, and written in the source's own voxels."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from domains.domain import Candidate
from domains.errors import RecipeError
from domains.medical.entries import open_label
from domains.medical.heads import HEADS, tumor_boxes
from domains.medical.kinds import write_prediction
from domains.medical.readers import read_volume
from ssl_models import encoders
from ssl_models.decoders.detection import EDGES, anchors_of
from ssl_models.protocols import Batch
from tests.domains.medical.test_results import source_file
from tests.lesion_entries import contract_for, write_entries

CROP = (8, 32, 32)
HEAD = HEADS["tumor_boxes"]


class BrightPlaces(nn.Module):
    """Rows of one level: a score where the crop is bright, and the anchors as they are."""

    stride = (2, 4, 4)

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        assert x.shape[2:] == CROP
        bright = F.avg_pool3d(x, self.stride)
        anchors = anchors_of(bright.shape[2:], self.stride)
        rows = torch.cat([torch.zeros(len(anchors), 7), anchors, torch.zeros(len(anchors), 1)], 1)
        rows = rows.expand(len(x), -1, -1).clone()
        rows[..., 0] = 10 * (bright.flatten(1).repeat_interleave(len(EDGES), 1) - 2)
        return rows


@pytest.mark.parametrize(("length", "size"), [(64, 32), (70, 32), (33, 32), (20, 32), (128, 64)])
def test_windows__every_place_is_answered_for_once(length, size):
    found = tumor_boxes.windows(length, size)
    for place in np.arange(length) + 0.5:
        (start,) = [start for start, low, high in found if low <= place < high]
        assert start <= place < start + size and (length <= size or 0 <= start <= length - size)
        if size // 4 < place < length - size // 4:
            assert min(place - start, start + size - place) >= size // 4


def test_predict__boxes_lie_on_the_lesion_of_the_whole_subject(tmp_path):
    contract = contract_for("3d", CROP)
    entry, label = write_entries(tmp_path, contract)
    model = BrightPlaces().train()
    prediction = HEAD.predict(model, entry, contract)
    assert model.training and prediction.dtype == np.float32 and prediction.shape[1] == 7
    assert (np.diff(prediction[:, 0]) <= 0).all() and (prediction[:, 0] <= 1).all()
    sure = prediction[prediction[:, 0] > 0.5]
    assert len(sure) > 3
    low, high = np.array(box_of(label)[:3]), np.array(box_of(label)[3:])
    middle = (sure[:, 1:4] + sure[:, 4:]) / 2
    assert (middle > low - model.stride).all() and (middle < high + model.stride).all()
    assert (sure[:, 1:4].min(0) <= low + model.stride).all() and (sure[:, 4:].max(0) >= high - model.stride).all()


def box_of(label):
    places = np.argwhere(open_label(label).native)
    return [*places.min(0), *(places.max(0) + 1)]


def test_score__by_hand(tmp_path):
    contract = contract_for("3d", CROP)
    entry, label = write_entries(tmp_path, contract)
    box = np.array(box_of(label), dtype=np.float32)  # 3 x 17 x 17
    apart = np.array([0, 0, 0, 2, 4, 4], dtype=np.float32)
    half = box.copy()
    half[3] -= 1  # 2 of 3 slices
    prediction = np.array([[0.9, *half], [0.8, *apart], [0.3, *box]], dtype=np.float32)
    figures, details = HEAD.score(prediction, entry, label)
    assert figures["box_iou"] == pytest.approx(2 / 3) == HEAD.primary_score(prediction, entry, label)
    assert details["lesions"] == [{"small": False, "score": 0.9}] and details["false_scores"] == [0.8]
    assert details["boxes"]["scores"] == [0.9, 0.8, 0.3] and details["boxes"]["hits"][0] == [1, 0, 0]
    first, past = int(box[0]), int(box[3])
    scores = [score for score, _ in details["slices"]]
    assert scores[first] == 0.9 and scores[past - 1] == 0.3 and scores[0] == 0.8 and scores[past] == 0
    assert [tumor for _, tumor in details["slices"]] == [int(first <= d < past) for d in range(8)]
    pooled = HEAD.pool([details])
    assert pooled["froc"] == 1 and pooled["box_ap_at_0.1"] == pooled["box_map"] == 1
    assert "IoU of 0.1" in " ".join(HEAD.summarise([details])["notes"])
    nothing, empty = HEAD.score(np.zeros((0, 7), np.float32), entry, label)
    assert nothing["box_iou"] == 0 and HEAD.pool([empty])["froc"] == 0 and not math.isnan(HEAD.pool([empty])["box_map"])
    for shown in (prediction, prediction[2:], prediction[:0]):
        assert HEAD.picture(entry, shown, label).startswith(b"\x89PNG")


def test_trivial__is_a_box(tmp_path):
    contract = contract_for("3d", CROP)
    entry, label = write_entries(tmp_path, contract)
    prediction = HEAD.trivial(entry, contract)
    assert prediction.shape == (1, 7) and prediction[0, 0] == 1
    assert 0 < HEAD.score(prediction, entry, label)[0]["box_iou"] <= 1


def test_loss__falls_when_the_box_is_given_away():
    contract = contract_for("3d", (16, 32, 32))
    encoder = encoders.build("resunet", size="tiny", in_channels=1, geometry=contract.geometry)
    model = nn.Sequential(encoder, HEAD.decoder(encoder, 2))
    targets = torch.zeros(2, 1, 16, 32, 32, dtype=torch.int64)
    targets[0, 0, 4:12, 8:24, 8:24] = 1
    batch = Batch(crops=torch.zeros(2, 1, 1, 16, 32, 32), sample_seed=torch.tensor([5, 6]), group_id=("a", "b"),
                  targets=targets)  # fmt: skip
    rows = model(batch.crops[:, 0]).detach()
    anchors = rows[0, :, 7:13]
    before = HEAD.loss(rows, batch)
    near = ((anchors - torch.tensor([4.0, 8, 8, 12, 24, 24])).abs().max(1).values < 7).nonzero()[:, 0]
    assert len(near)
    given = rows.clone()
    given[0, near, 0] = 5.0
    assert HEAD.loss(given, batch) < before < HEAD.loss(rows + 5 * torch.eye(14)[0], batch)


def test_decoder__slices_are_refused():
    contract = contract_for("2d", (64, 64))
    encoder = encoders.build("resunet", size="tiny", in_channels=3, geometry=contract.geometry)
    with pytest.raises(RecipeError, match=r"data\.plan=3d"):
        HEAD.decoder(encoder, 2)


def test_write_prediction__boxes_in_voxels_of_the_source(tmp_path):
    source = tmp_path / "flair.nii.gz"
    source_file(source)
    places = np.argwhere(read_volume(source).data[0] > 0)
    box = [*places.min(0), *(places.max(0) + 1)]
    prediction = np.array([[0.9, *box], [0.2, *box]], dtype=np.float32)
    candidate = Candidate(name="p", group="p", images={"flair": source}, notes={})
    overlay, figures = write_prediction(candidate, prediction, contract_for("3d", CROP), tmp_path / "out")
    assert overlay.read_bytes().startswith(b"\x89PNG") and figures.name == "flair_result.json"
    result = json.loads(figures.read_text())
    assert result["found"]["lesion"] and [one["slice"] for one in result["found"]["slices"]] == [2, 3, 4]
    assert [one["score"] for one in result["boxes"]] == [0.9, 0.2]
    assert result["boxes"][0]["first_voxel"] == [4, 2, 6] and result["boxes"][0]["last_voxel"] == [8, 4, 13]
    assert result["boxes"][0]["size_mm"] == [10, 15, 16]
    _, figures = write_prediction(candidate, prediction[:0], contract_for("3d", CROP), tmp_path / "none")
    assert json.loads(figures.read_text())["found"]["lesion"] is False
