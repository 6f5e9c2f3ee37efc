"""The one training loop: reproducible step by step, resumable bit by bit."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from domains.domain import CropSource
from domains.errors import ContractMismatch, Diverged, Preempted
from domains.recipe import Training
from domains.store import locked, write_atomically
from pipelines import checkpoint, ranks, runtime
from pipelines.loaders import STEP, batches, hashed
from pipelines.progress import Progress
from pipelines.tracking import Tracker
from ssl_models.optim import AveragedWeights, adamw, parameter_groups, set_learning_rate, warmup_cosine
from ssl_models.protocols import Batch, Losses

CURVE_POINTS = 200
"""Losses kept for the report, and records in the journal, over a whole training."""


@dataclass(frozen=True)
class Watch:
    """Extra figures (health, probes) from the module: before the first step, every so many steps, and at the end."""

    look: Callable[[int, nn.Module], dict[str, float]]
    """step, module -> figures for the journal; must not change the module."""
    every: int = 50


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training: what, on what, how, and where its state lives."""

    module: nn.Module
    """module(batch) -> Losses; trained in place. It, or a part with all its parameters, has an `encoder`."""
    source: CropSource
    settings: Training
    seed: int
    precision: str
    devices: int
    """Above 1: as many ranks, each with its share of every batch."""
    spatial_axes: int
    """Decides the memory layout: 2 and 3 train channels-last."""
    crops: int = 1
    """Of each subject in a batch."""
    folder: Path
    """Of this run in the home: lock, journal, checkpoints/."""
    identity: dict[str, Any]
    """JSON: verb, key, recipe, data digest. A checkpoint of another identity is refused."""
    label: str
    watches: tuple[Watch, ...] = ()
    sharded: bool = False
    """Spread the parameters over the ranks too, where one device cannot hold them. Watches are then not asked."""


@dataclass(frozen=True)
class Outcome:
    """What a training cost and gave, over all its resumes."""

    steps: int
    seconds: float
    samples_per_second: float
    data_wait_share: float
    """Share of the seconds spent waiting for batches."""
    peak_memory_mb: float
    resumed_at: list[int]
    losses: list[tuple[int, float]]
    """(step, loss), at most `CURVE_POINTS` and the last."""
    last_loss: float


@dataclass
class _Account:
    """The part of the state that is not a tensor; travels in each checkpoint."""

    step: int = 0
    seconds: float = 0.0
    wait_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    resumed_at: list[int] = field(default_factory=list)
    losses: list[tuple[int, float]] = field(default_factory=list)
    last_loss: float = math.nan


def train(job: Job, tracker: Tracker) -> Outcome:
    """Trains `job.module` in place to the end of `job.settings.steps`, from its last checkpoint if there is one.

    On return the module holds the final weights: the averaged ones if `settings.ema_decay` is above 0. One process
    trains a folder at a time; a second one waits and then finds the work done.

    Raises:
        Preempted: SIGTERM or SIGINT came; the state is saved and the same call goes on.
        Diverged: the loss or its gradient is not finite, now or in an earlier try of the same job; or a watch says so.
        ContractMismatch: the folder holds a checkpoint of another job.
    """
    with locked(job.folder / "lock"), torch.random.fork_rng(), runtime.stop_on_signals():
        _refuse_to_diverge_again(job)
        if job.devices > 1:
            try:
                ranks.together(_as_rank, job, tracker)
            finally:
                runtime.stop_requested.clear()
            job = replace(job, devices=1, sharded=False)  # whose last checkpoint is there now
        return _to_the_end(job, tracker).finish()


def _as_rank(job: Job, tracker: Tracker) -> None:
    """What each of several ranks does, below the lock of the process that started them."""
    with runtime.stop_on_signals():
        _to_the_end(job, tracker)


def _to_the_end(job: Job, tracker: Tracker) -> _Run:
    """The run after its last step."""
    run = _Run(job, tracker)
    run.restore()
    if run.account.step == 0:
        run.look()
    steps, leads = job.settings.steps, ranks.rank() == 0
    remaining = closing(_batches(job, run.account.step))
    with remaining as stream, Progress(job.label, steps, done=run.account.step, shown=leads) as progress:
        while run.account.step < steps:
            started = time.monotonic()
            _, batch = next(stream)
            run.account.wait_seconds += time.monotonic() - started
            loss = run.step(batch)
            run.account.seconds += time.monotonic() - started
            progress.advance(loss=loss)
            if run.asked_to_stop() and run.account.step < steps:
                run.save()
                ranks.meet()  # whoever leaves first ends the others
                runtime.stop_requested.clear()  # heard: a second try in this process is not stopped by it
                raise Preempted(
                    f"{job.label} was asked to stop; step {run.account.step} of {steps} is saved in "
                    f"{job.folder}. Run the same command again to go on"
                )
    return run


class _Run:
    """Module, optimiser and averaged weights of a job on its device."""

    def __init__(self, job: Job, tracker: Tracker) -> None:
        self.job, self.tracker, self.settings = job, tracker, job.settings
        self.fabric = runtime.fabric(job)
        self.account = _Account()
        self.checkpoints = job.folder / "checkpoints"
        self.identity = json.loads(json.dumps(job.identity))
        self._stop_agreed = False
        self.module = job.module.to(self.fabric.device).train()
        if not job.sharded:  # which takes contiguous parameters only
            _lay_out(self.module, job.spatial_axes)
        self.network = ranks.spread(self.fabric, self.module)
        groups = parameter_groups(
            _with_encoder(self.module), weight_decay=self.settings.weight_decay, layer_decay=self.settings.layer_decay
        )
        self.optimizer = adamw(groups, learning_rate=self.settings.learning_rate)
        self.averaged = AveragedWeights(self.module, self.settings.ema_decay) if self.settings.ema_decay else None
        self.curve_every = max(1, self.settings.steps // CURVE_POINTS)

    def step(self, batch: Batch) -> float:
        """One optimisation step; logs and saves when it is time. Gives the loss."""
        account, settings = self.account, self.settings
        # Seeded afresh, so that dropout and the like depend on (seed, step) and no generator needs to be saved.
        own = [ranks.rank()] if ranks.rank() else []
        torch.manual_seed(int(hashed(STEP, self.job.seed, account.step, *own)) >> 1)
        factor = warmup_cosine(account.step, steps=settings.steps, warmup_steps=settings.warmup_steps)
        rate = settings.learning_rate * factor
        set_learning_rate(self.optimizer, rate)
        with self.fabric.autocast():
            losses = self.network(_lay_out_batch(batch.to(self.fabric.device), self.job.spatial_axes))
        self.fabric.backward(losses.total)
        norm = float(ranks.whole(nn.utils.clip_grad_norm_(self.module.parameters(), settings.clip_norm)))
        loss, parts = self._of_all_ranks(losses)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._diverge(loss, norm, rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        getattr(self.module, "after_step", lambda: None)()
        if self.averaged:
            self.averaged.update(self.module, account.step)
        account.step += 1
        account.last_loss = loss
        self._record(loss, parts, {"learning_rate": rate, "gradient_norm": norm})
        if account.step % settings.checkpoint_every == 0 or account.step == settings.steps:
            self.save()
        return loss

    def _of_all_ranks(self, losses: Losses) -> tuple[float, Callable[[], dict[str, float]]]:
        """Loss and parts, averaged over ranks; and whether any of them was asked to stop, so that all do at this step.

        The parts are read when they are asked for, which a device need not wait for at every step.
        """
        total = float(losses.total.detach())
        if ranks.count() == 1:
            return total, lambda: {name: float(value) for name, value in losses.parts.items()}
        own = {name: float(value) for name, value in losses.parts.items()}
        stop = float(ranks.stop_requested())
        figures = ranks.mean({"": total, " stop": stop, **own}, self.fabric.device)
        total, self._stop_agreed = figures.pop(""), figures.pop(" stop") > 0
        return total, lambda: figures

    def asked_to_stop(self) -> bool:
        """Whether the training ends at this step: of several ranks, what they have agreed on in it."""
        return self._stop_agreed if ranks.count() > 1 else ranks.stop_requested()

    def _record(self, loss: float, parts: Callable[[], dict[str, float]], figures: dict[str, float]) -> None:
        account, last = self.account, self.account.step == self.settings.steps
        if account.step % self.curve_every == 0 or last:
            account.losses.append((account.step, loss))
            self.tracker.log(account.step, {"loss": loss, **parts(), **figures})
        self.look()

    def look(self) -> None:
        """Logs what the job's watches see, those whose turn it is."""
        step = self.account.step
        for watch in () if self.job.sharded else self.job.watches:
            if step % watch.every == 0 or step == self.settings.steps:
                self.tracker.log(step, watch.look(step, self.module))

    def save(self) -> None:
        """Writes a checkpoint, in rank 0; of a sharded run every rank has a part of it."""
        self.account.peak_memory_mb = max(self.account.peak_memory_mb, runtime.peak_memory_mb())
        tensors = {f"model.{name}": tensor for name, tensor in self.module.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
        if self.averaged:
            tensors |= {f"ema.{name}": tensor for name, tensor in self.averaged.state_dict().items()}
        tensors = {name: ranks.whole(tensor) for name, tensor in tensors.items()}
        state = {"identity": self.identity, "account": vars(self.account), **self._machine()}
        if ranks.rank() == 0:
            checkpoint.save(self.checkpoints, self.account.step, tensors, state)

    @staticmethod
    def _machine() -> dict[str, int]:
        """What the result depends on, bit by bit, besides the job."""
        return {"threads": runtime.threads(), "ranks": ranks.count()}

    def restore(self) -> None:
        """Continues from the newest whole checkpoint of the folder, if there is one."""
        loaded = checkpoint.latest(self.checkpoints, self._warn)
        if loaded is None:
            return
        _refuse_another(loaded.state["identity"], self.identity, self.checkpoints)
        if loaded.step < self.settings.steps:
            self._say_what_changed({"ranks": 1, **loaded.state})
        current, given = self.module.state_dict(), _below("model.", loaded.tensors)
        self.module.load_state_dict({name: ranks.shared_like(t, current.get(name, t)) for name, t in given.items()})
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _below("optimizer.", loaded.tensors).items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = ranks.shared_like(tensor, parameters[int(index)])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        if self.averaged:
            averaged, given = self.averaged.state_dict(), _below("ema.", loaded.tensors)
            self.averaged.load_state_dict({n: ranks.shared_like(t, averaged.get(n, t)) for n, t in given.items()})
        self.account = _Account(**loaded.state["account"])
        self.account.losses = [(step, loss) for step, loss in self.account.losses]
        if self.account.step < self.settings.steps:
            self.account.resumed_at.append(self.account.step)
            self._warn(f"{self.job.label} goes on at step {self.account.step} of {self.settings.steps}")

    def _say_what_changed(self, before: dict[str, Any]) -> None:
        for name, now in self._machine().items():
            if before[name] != now:
                self._warn(
                    f"this run began with {before[name]} {name} and goes on with {now}: the result will not be "
                    "bit-identical to an unstopped one (SELFSIGHT_THREADS sets the threads, devices the ranks)"
                )

    def finish(self) -> Outcome:
        if self.averaged:
            self.module.load_state_dict(self.averaged.state_dict(), strict=False)
        account = self.account
        return Outcome(
            steps=account.step,
            seconds=account.seconds,
            samples_per_second=account.step * self.settings.batch_size / max(account.seconds, 1e-9),
            data_wait_share=account.wait_seconds / max(account.seconds, 1e-9),
            peak_memory_mb=max(account.peak_memory_mb, runtime.peak_memory_mb()),
            resumed_at=account.resumed_at,
            losses=account.losses,
            last_loss=account.last_loss,
        )

    def _diverge(self, loss: float, norm: float, rate: float) -> None:
        kept = checkpoint.steps(self.checkpoints)
        text = (
            f"{self.job.label} diverged at step {self.account.step}: loss {loss}, gradient norm {norm}, learning rate "
            f"{rate:.3g}. "
            f"The last good checkpoint is {kept[-1] if kept else 'none yet'}. Change the recipe before running again: "
            f"a lower learning_rate (now {self.settings.learning_rate:g}), a longer warmup_steps (now "
            f"{self.settings.warmup_steps}), a smaller clip_norm (now {self.settings.clip_norm:g}) or precision 32-true"
        )
        marker = {"identity": self.identity, "step": self.account.step, "text": text}
        write_atomically(_marker(self.job), json.dumps(marker, indent=1))
        self.tracker.note(text)
        raise Diverged(text)

    def _warn(self, text: str) -> None:
        if ranks.rank() == 0:
            print(text, file=sys.stderr, flush=True)
        self.tracker.note(text)


def _batches(job: Job, start: int) -> Any:
    settings = job.settings
    return batches(
        job.source, seed=job.seed, batch_size=settings.batch_size, start=start, stop=settings.steps, crops=job.crops,
        rank=ranks.rank(), ranks=ranks.count(),
    )  # fmt: skip


def _marker(job: Job) -> Path:
    return job.folder / "diverged.json"


def _refuse_to_diverge_again(job: Job) -> None:
    if _marker(job).exists():
        text = json.loads(_marker(job).read_text())["text"]
        raise Diverged(f"{text}. It would diverge again at the same step; to try nevertheless delete {_marker(job)}")


def _refuse_another(saved: dict[str, Any], mine: dict[str, Any], where: Path) -> None:
    differing = [key for key in sorted(saved | mine) if saved.get(key) != mine.get(key)]
    if differing:
        lines = [f"  {key}: checkpoint has {saved.get(key)!r}, this run has {mine.get(key)!r}" for key in differing]
        raise ContractMismatch(f"the checkpoints in {where} belong to another run:\n" + "\n".join(lines))


def _with_encoder(module: nn.Module) -> nn.Module:
    """The part of a job's module that holds its encoder as `encoder` and every trainable parameter besides."""
    holder = next((part for part in module.modules() if hasattr(part, "encoder")), module)
    held = {id(parameter) for parameter in holder.parameters()}
    if any(parameter.requires_grad and id(parameter) not in held for parameter in module.parameters()):
        raise ValueError(f"{type(module).__name__} trains parameters outside the part that has an `encoder`")
    return holder


def _lay_out(module: nn.Module, spatial_axes: int) -> nn.Module:
    """Convolution weights of the module in the layout that is fastest for its spatial axes."""
    layout = runtime.memory_format(spatial_axes)
    for parameter in module.parameters():
        if parameter.dim() == spatial_axes + 2:
            # Copied, since `contiguous` leaves the strides of one-channel weights, and kernels are chosen by strides.
            parameter.data = torch.empty_like(parameter.data, memory_format=layout).copy_(parameter.data)
    return module


def _lay_out_batch(batch: Batch, spatial_axes: int) -> Batch:
    """Crops (B, V, C, *S) such that their (B * V, C, *S) view is in the module's layout."""
    flat = batch.crops.flatten(0, 1).contiguous(memory_format=runtime.memory_format(spatial_axes))
    return replace(batch, crops=flat.unflatten(0, batch.crops.shape[:2]))


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
