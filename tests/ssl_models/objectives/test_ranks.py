"""Two ranks with half the batch each give the gradient that one rank with the whole batch gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

from ssl_models import objectives, pairs
from ssl_models.protocols import Batch
from tests.ssl_models.objectives.test_contract import batch_of, objective_of

RANKS, STEPS = 2, 3
NOT_A_MEAN = {
    "anomaly_synthesis": "Dice is taken over the whole batch",
    "frame_order": "features are standardised over a rank's own clips, and still ones have no weight",
    "frame_prediction": "its state is standardised over a rank's own clips",
    "motion_prediction": "moving and still cells are weighed over the whole batch",
    "proposals": "crops are selected, and Dice taken, over the whole batch",
    "temporal_contrast": "a rank contrasts its own clips",
    "world_model": "SIGReg is a statistic of a rank's own clips",
}
"""Objectives whose loss is no mean over samples of all ranks, and why."""
CASES = [name for name in objectives.names() if name not in NOT_A_MEAN]
Gradients = dict[str, Tensor]


def case_of(name: str) -> tuple[nn.Module, list[Batch]]:
    """An objective and a batch of four subjects, two of one group, for each step."""
    axes = "clip" if objectives.needs(name).time else "2d"
    pairs_of_batches = [(batch_of(axes, seed), batch_of(axes, seed + 100)) for seed in range(STEPS)]
    return objective_of(name, "resunet", axes), [joined(*both) for both in pairs_of_batches]


def joined(first: Batch, second: Batch) -> Batch:
    return changed(first, lambda name, x: torch.cat([x, getattr(second, name)]), ("a", "b", "c", "a"))


def half_of(batch: Batch, rank: int) -> Batch:
    part = slice(rank * len(batch) // RANKS, (rank + 1) * len(batch) // RANKS)
    return changed(batch, lambda name, x: x[part], batch.group_id[part])


def changed(batch: Batch, change: Any, group_id: tuple[str, ...]) -> Batch:
    tensors = {name: change(name, x) for name, x in vars(batch).items() if isinstance(x, Tensor)}
    return Batch(**(vars(batch) | tensors | {"group_id": group_id}))


def trained(name: str, rank: int | None) -> Gradients:
    """The gradients of the last of a few steps, averaged over ranks, and the buffers after it."""
    objective, batches = case_of(name)
    optimizer = torch.optim.SGD(objective.parameters(), lr=1e-3)
    for batch in batches:
        optimizer.zero_grad()
        objective(batch if rank is None else half_of(batch, rank)).total.backward()
        for parameter in objective.parameters():
            if rank is not None and parameter.grad is not None:
                distributed.all_reduce(parameter.grad)
                parameter.grad /= RANKS
        optimizer.step()
        getattr(objective, "after_step", lambda: None)()
    gradients = {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}
    return gradients | {f"buffer {name}": x for name, x in objective.named_buffers()}


def work(rank: int, folder: str) -> None:
    """What each rank does: all objectives, and SimCLR once more as if it were alone with its crops."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS)
    found = {name: trained(name, rank) for name in CASES}
    gather, pairs._ranks = pairs._ranks, lambda: 1
    found["alone"] = trained("simclr", rank)
    pairs._ranks = gather
    torch.save(found, f"{folder}/rank{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Gradients]]:
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(work, (str(folder),), nprocs=RANKS)
    return [torch.load(Path(folder, f"rank{rank}.pt"), weights_only=True) for rank in range(RANKS)]


def largest_difference(found: Gradients, expected: Gradients) -> float:
    """Over all tensors, relative to the largest entry of each kind."""
    assert found.keys() == expected.keys()
    scale = max(float(x.abs().max()) for name, x in expected.items() if not name.startswith("buffer "))
    differences = [
        float((found[name] - x).abs().max()) / (scale if not name.startswith("buffer ") else 1)
        for name, x in expected.items() if x.numel()
    ]  # fmt: skip
    return max(differences)


def test_needs__say_which_losses_ranks_cannot_share():
    assert {name for name in objectives.names() if objectives.needs(name).whole_batch} == set(NOT_A_MEAN)
    with pytest.raises(ValueError, match="loss of proposals is taken over a whole batch"):
        objectives.refuse_ranks("mae + proposals")
    objectives.refuse_ranks("mae + simclr")


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_gradient__of_two_ranks_is_that_of_one(name: str, of_ranks: list[dict[str, Gradients]]) -> None:
    expected = trained(name, None)
    for rank in range(RANKS):
        assert largest_difference(of_ranks[rank][name], expected) < 2e-4


@pytest.mark.slow
def test_gradient__is_another_where_ranks_do_not_meet(of_ranks: list[dict[str, Gradients]]) -> None:
    assert largest_difference(of_ranks[0]["alone"], trained("simclr", None)) > 2e-2
