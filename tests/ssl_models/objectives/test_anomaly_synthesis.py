"""Anomaly synthesis: what the painter is told and what comes of it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ssl_models.encoders import build
from ssl_models.losses import dice_cross_entropy
from ssl_models.objectives.anomaly_synthesis import AnomalySynthesis
from ssl_models.protocols import Batch, Geometry

GEOMETRY = Geometry((16, 16), ((1, 1), (2, 2)), (8, 8))


class Notebook:
    """A painter that marks a corner and remembers its arguments."""

    def __call__(self, crops: Tensor, spacing_mm: Tensor | None, foreground: Tensor | None, seed: Tensor):
        self.told = crops, spacing_mm, foreground, seed
        label = torch.zeros_like(crops[:, :1], dtype=torch.int64)
        label[..., :5, :5] = 1
        return crops + 2 * label, label


def objective_of(painter: Notebook | None) -> AnomalySynthesis:
    torch.manual_seed(0)
    return AnomalySynthesis(build("resunet", size="tiny", in_channels=2, geometry=GEOMETRY), painter=painter)


def batch_of() -> Batch:
    torch.manual_seed(1)
    return Batch(
        crops=torch.randn(2, 3, 2, 16, 16),
        sample_seed=torch.tensor([4, 9]),
        group_id=("a", "b"),
        spacing_mm=torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        foreground=torch.ones(2, 3, 1, 16, 16, dtype=torch.bool),
    )


def test_forward__painter_gets_every_crop_with_its_spacing_foreground_and_seed() -> None:
    painter, batch = Notebook(), batch_of()
    objective = objective_of(painter)
    losses = objective(batch)
    crops, spacing_mm, foreground, seed = painter.told
    assert torch.equal(crops, batch.crops.flatten(0, 1))
    assert spacing_mm.tolist() == [[1, 2]] * 3 + [[3, 4]] * 3
    assert foreground.shape == (6, 1, 16, 16)
    assert len(set(seed.tolist())) == 6
    painted, label = painter(crops, None, None, seed)
    torch.testing.assert_close(losses.total, dice_cross_entropy(objective.decoder(objective.encoder(painted)), label))
    assert losses.embedding.shape == (2, 32)


def test_forward__without_spacing_and_foreground() -> None:
    painter = Notebook()
    objective_of(painter)(replace(batch_of(), spacing_mm=None, foreground=None))
    assert painter.told[1:3] == (None, None)


def test_examples__panels_are_in_order() -> None:
    batch = batch_of()
    panels = objective_of(Notebook()).examples(batch)
    assert list(panels) == ["original", "painted", "label", "found"]
    assert all(panel.shape == (2, 1, 16, 16) for panel in panels.values())
    assert torch.equal(panels["painted"], panels["original"] + 2 * panels["label"])
    assert panels["found"].min() >= 0 and panels["found"].max() <= 1


def test_init__needs_a_painter() -> None:
    with pytest.raises(ValueError, match="needs a painter"):
        objective_of(None)


def test_forward__nothing_is_painted_into_a_missing_channel() -> None:
    batch = replace(batch_of(), channels_present=torch.tensor([[True, True], [True, False]]))
    batch = replace(batch, crops=batch.crops * batch.channels_present.view(2, 1, 2, 1, 1))
    painted, label = objective_of(Notebook())._paint(batch)
    assert label.any() and painted[:, 0].any() and painted[:3, 1].any() and not painted[3:, 1].any()
