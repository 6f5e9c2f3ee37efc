"""A step of the video masked autoencoder at 90 % hidden against the same transformer on all tokens: the ratio.

Run `python tests/benchmarks/bench_video_mae.py [size]`; it prints one JSON object. Clips of 16 frames of 224 x 224 in
colour, tokens of 2 x 16 x 16: 1,568 of them, 160 seen. The masked step is whole: tubes, encoder, two narrow decoder
blocks over all tokens, normalised targets, AdamW. Its competitor runs the encoder over all tokens and predicts the
hidden ones by one linear layer, as light as such a step can be; its loss and optimiser are the same.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))
from bench_mae_step import interleaved

from ssl_models import optim
from ssl_models.encoders import build
from ssl_models.encoders.vit import ViTEncoder
from ssl_models.objectives.mae import MaskedAutoencoder
from ssl_models.protocols import Batch, Geometry
from ssl_models.tokens import Split, take

CROP, PATCH, BATCH = (16, 224, 224), (2, 16, 16), 2
DECODER_WIDTH, DECODER_DEPTH, MASK_RATIO = 96, 2, 0.9


class AllTokens(nn.Module):
    """In place of the filler: the encoder sees every token, and a line predicts the hidden ones."""

    def __init__(self, encoder: ViTEncoder) -> None:
        super().__init__()
        self.predict = nn.Linear(encoder.width, encoder.embed.in_features)

    def token_shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return PATCH

    def forward(self, encoder: ViTEncoder, crops: Tensor, split: Split) -> tuple[Tensor, Tensor]:
        tokens = encoder.tokens(crops)
        return self.predict(take(tokens, split.rest)), tokens.mean(1)


def step_of(size: str, every_token: bool) -> Callable[[], None]:
    """A function that trains by one step."""
    torch.manual_seed(0)
    encoder = build("vit", size=size, in_channels=3, geometry=Geometry(CROP, ((1, 1, 1),), PATCH, time_axis=True))
    objective = MaskedAutoencoder(
        encoder, mask_ratio=MASK_RATIO, tube=True, decoder_width=DECODER_WIDTH, decoder_depth=DECODER_DEPTH
    )
    if every_token:
        objective.filler = AllTokens(encoder)
    optimizer = optim.adamw(optim.parameter_groups(objective, weight_decay=0.05), learning_rate=1e-4)
    batch = Batch(crops=torch.randn(BATCH, 1, 3, *CROP), sample_seed=torch.arange(BATCH), group_id=("",) * BATCH)

    def step() -> None:
        loss = objective(batch).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def run(size: str = "tiny") -> dict[str, float]:
    """Seconds a step and their ratio (above 1: hiding pays)."""
    seconds = interleaved({"masked90": step_of(size, False), "all_tokens": step_of(size, True)})
    return {
        **{f"seconds_{name}": round(value, 4) for name, value in seconds.items()},
        "all_tokens_over_masked90": round(seconds["all_tokens"] / seconds["masked90"], 3),
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:2])))
