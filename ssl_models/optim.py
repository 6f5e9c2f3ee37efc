"""Optimisation: AdamW groups with layer-wise decay, warm-up and cosine, averaged weights, teachers."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.95)


def parameter_groups(model: nn.Module, *, weight_decay: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """AdamW groups of the trainable parameters of `model`, which holds its encoder as `model.encoder`.

    Weights of more than one axis decay; biases, norms and other vectors do not. Every group has a `scale`, a factor
    of the learning rate: 1 outside the encoder and `layer_decay ** (layers - depth)` inside, see `depths`.

    Source: layer-wise decay as in Clark et al. 2020 (arXiv 2003.10555), numbered as in He et al. 2021 (arXiv
        2111.06377).
    """
    depth_of = depths(model.get_submodule("encoder"))
    layers = max(depth_of.values())
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            inside = name.startswith("encoder.")
            scale = layer_decay ** (layers - depth_of[name.removeprefix("encoder.")]) if inside else 1.0
            groups[scale, weight_decay if parameter.ndim > 1 else 0.0].append(parameter)
    return [{"params": params, "scale": scale, "weight_decay": decay} for (scale, decay), params in groups.items()]


def depths(encoder: nn.Module) -> dict[str, int]:
    """Depth of each parameter: 0 for a patch embedding, i + 1 in `blocks[i]` or `stages[i]`, one more for the rest.

    The rest is what comes after the last block: the final norm and the feature pyramid, which pretraining on tokens
    leaves untouched. A convolutional encoder's last stage has only the heads above it, at its depth plus one.
    """
    counts = [len(getattr(encoder, kind)) for kind in ("blocks", "stages") if hasattr(encoder, kind)]
    top = (counts[0] if counts else 0) + 1

    def depth(name: str) -> int:
        first, *others = name.split(".")
        if first in ("blocks", "stages"):
            return int(others[0]) + 1
        return 0 if first == "embed" else top

    return {name: depth(name) for name, _ in encoder.named_parameters()} | {"": top}


def adamw(groups: list[dict[str, Any]], *, learning_rate: float) -> torch.optim.AdamW:
    """AdamW over these groups, in one fused kernel per group (CPU and CUDA)."""
    return torch.optim.AdamW(groups, lr=learning_rate, betas=BETAS, fused=True)


def warmup_cosine(step: int, *, steps: int, warmup_steps: int) -> float:
    """Factor of the learning rate at `step` (0-based): linear up to 1 at `warmup_steps`, then half a cosine to 0.

    The first step's factor is 1 / warmup_steps, not 0. A pure function: nothing to save, nothing to resume.

    Source: Loshchilov, Hutter 2016 (arXiv 1608.03983), without restarts.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Sets every group's rate to `learning_rate` times its scale."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["scale"]


class AveragedWeights:
    """Exponential moving average of a model's parameters and floating-point buffers, in float32.

    Source: Polyak, Juditsky 1992; as a teacher Tarvainen, Valpola 2017 (arXiv 1703.01780).
    Differs: the decay rises from 0.1 to its value, so that a short training does not average its random start in.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Starts at the model's present weights; `decay` in [0, 1) is the share that an update keeps."""
        self.decay = decay
        self._averaged = {name: tensor.detach().clone() for name, tensor in _weights(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """averaged <- d * averaged + (1 - d) * model, in place, with d = min(decay, (1 + step) / (10 + step))."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self._averaged.values()), list(_weights(model).values()), 1 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged tensors by name; also what `model.load_state_dict(..., strict=False)` takes."""
        return dict(self._averaged)

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Copies saved averages into place, each keeping its memory layout.

        Raises:
            ValueError: the names differ.
        """
        if state.keys() != self._averaged.keys():
            odd = sorted(state.keys() ^ self._averaged.keys())
            raise ValueError(f"averaged weights do not belong to this model; only one side has {', '.join(odd[:3])}")
        for name, averaged in self._averaged.items():
            averaged.copy_(state[name])


def frozen_copy(module: Any) -> Any:
    """A teacher: a copy of its own at the module's present weights, none of which is trained."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def move_teacher(teacher: Any, student: Any, momentum: float) -> None:
    """teacher <- momentum * teacher + (1 - momentum) * student, parameter by parameter, in place.

    Source: Tarvainen, Valpola 2017 (arXiv 1703.01780).
    """
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - momentum)


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
