"""The watch over collapse: one objective that collapses on purpose, one that must not be suspected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from learning import IMAGE, shapes
from torch import nn

from domains.errors import Collapsed, Diverged
from domains.recipe import Pretrain
from pipelines.loop import Watch, train
from pipelines.watching import HealthWatch, frozen
from ssl_models import encoders, objectives
from ssl_models.protocols import Batch, Losses, pooled
from tests.pipelines.tiny_training import Silent, make_job

SETTINGS = {"steps": 40, "batch_size": 8, "learning_rate": 3e-3, "warmup_steps": 2, "ema_decay": 0.0,
            "checkpoint_every": 10, "weight_decay": 0.0}  # fmt: skip


class Shapes:
    """Crops of shapes; the first seed of a batch draws them all."""

    def __len__(self) -> int:
        return 8

    def batch(self, subjects: Sequence[int], seeds: Sequence[int], crops: int = 1) -> Batch:
        return shapes(len(subjects), int(seeds[0]) % 2**31)[0]


class Constant(nn.Module):
    """Asks every crop for the same features: their variance, next to their mean, shall vanish."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, batch: Batch) -> Losses:
        features = pooled(self.encoder(batch.crops[:, 0])).float()
        return Losses(total=(features.var(0).mean() / features.mean(0).square().mean() + 1e-12).log())


def trained(objective: str, folder: Path, **settings: Any) -> tuple[Silent, Any, HealthWatch]:
    """Tracker, module and watch after 40 steps that are watched every ten."""
    torch.manual_seed(0)
    encoder = encoders.build("resunet", size="tiny", in_channels=1, geometry=IMAGE)
    module: Any = Constant(encoder)
    if objective == "mae":
        module = objectives.build("mae", encoder, settings={}, painter=None)
    tracker = Silent()
    asked = Pretrain(**(SETTINGS | settings))
    watch = HealthWatch(module, shapes(32, 77)[0], asked, "pretrain x", tracker)  # type: ignore[arg-type]
    job = make_job(folder, module=module, source=Shapes(), spatial_axes=2, watches=(Watch(watch, 10),), **SETTINGS)
    train(job, tracker)  # type: ignore[arg-type]
    return tracker, module, watch


def test_health_watch__constant_features__one_warning_that_says_what_to_try(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker, module, watch = trained("constant", tmp_path)
    said = [text for text in tracker.notes if "collapsed" in text]
    assert len(said) == 1 and capsys.readouterr().err.count("has collapsed at step") == 1
    for advice in ("learning_rate (now 0.003)", "batch_size (now 8)", "augmentation", "variance term", "teacher"):
        assert advice in said[0]
    logged = dict((step, figures) for step, figures in tracker.logged if "health/rankme" in figures)
    assert list(logged) == [0, 10, 20, 30, 40]
    assert logged[40]["health/feature_std"] < 0.02 * logged[0]["health/feature_std"]
    assert watch.figures(module) == {name.removeprefix("health/"): value for name, value in logged[40].items()}


def test_health_watch__mae__no_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracker, _, _ = trained("mae", tmp_path, stop_on_collapse=True)
    assert not tracker.notes and "collapsed" not in capsys.readouterr().err


def test_health_watch__asked_to_stop__typed_error_and_the_same_folder_goes_on_when_no_longer_asked(
    tmp_path: Path,
) -> None:
    with pytest.raises(Collapsed, match="pretrain x has collapsed at step") as stopped:
        trained("constant", tmp_path, stop_on_collapse=True)
    assert isinstance(stopped.value, Diverged) and stopped.value.exit_code == 76
    with pytest.raises(Collapsed):
        trained("constant", tmp_path, stop_on_collapse=True)
    tracker, _, _ = trained("constant", tmp_path)
    assert max(step for step, _ in tracker.logged) == 40


def test_health_watch__asked_to_stop__the_figures_that_stopped_it_are_logged() -> None:
    torch.manual_seed(0)
    module, tracker = Constant(encoders.build("resunet", size="tiny", in_channels=1, geometry=IMAGE)), Silent()
    settings = Pretrain(**SETTINGS, stop_on_collapse=True)
    watch = HealthWatch(module, shapes(32, 77)[0], settings, "x", tracker)  # type: ignore[arg-type]
    assert watch(0, module).keys() == {"health/feature_std", "health/rankme"}
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        for parameter in module.encoder.stages[-1].norm2.parameters():
            parameter.fill_(1e-6)
        module.encoder.stages[-1].norm2.bias.fill_(1)
    watch(50, module)  # once may be chance
    with pytest.raises(Collapsed):
        watch(100, module)
    assert [step for step, _ in tracker.logged] == [100]


def test_frozen__leaves_mode_and_weights_alone() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    features = frozen(network, torch.randn(4, 1, 8, 8))
    assert not features.requires_grad and network.training and network[1].training  # type: ignore[attr-defined]
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
