"""The public face: `selfsight.load("models:/brain-tumor-encoder@champion").finetune(data="my/")`.

Importing it is cheap; torch and the rest are imported by the first call that needs them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Handle", "load"]


@dataclass(frozen=True)
class Handle:
    """An encoder or a model, by the folder it is in."""

    folder: Path
    home: Path

    def finetune(
        self, data: str | Path, *, label_budget: int | None = None, changes: dict[str, str] | None = None
    ) -> Handle:
        """A model trained on the labelled folder `data`, starting from this encoder.

        Args:
            data: a folder with images and masks; added to the dataset of the encoder's recipe in the home.
            label_budget: how many labelled groups may be used; all by default.
            changes: recipe keys to change, e.g. {"finetune.steps": "200"}.
        """
        from pipelines.finetune import finetune
        from pipelines.ingest import ingest
        from pipelines.models import open_model

        encoder = open_model(self.folder)
        recipe = encoder.recipe.changed(changes or {})
        taken = ingest(Path(data), recipe, self.home, contract=encoder.contract)
        trained = finetune(recipe, self.home, encoder=self.folder, label_budget=label_budget, data=taken.manifest)
        return Handle(trained.folder, self.home)

    def evaluate(self, data: str | Path | None = None, *, transductive: bool = False) -> dict[str, Any]:
        """Metrics with intervals and cases on a labelled folder; on the held-out groups without one."""
        from pipelines.evaluate import evaluate

        source = Path(data) if data is not None else None
        return evaluate(self.folder, self.home, source=source, transductive=transductive).to_json()

    def predict(self, inputs: str | Path | Iterable[str | Path], out: str | Path) -> list[dict[str, Any]]:
        """Writes predictions for files or folders below `out`, each in its file's own space; says which."""
        from pipelines.predict import predict

        paths = [inputs] if isinstance(inputs, str | Path) else list(inputs)
        return predict(self.folder, [Path(path) for path in paths], Path(out), self.home)

    def encoder(self) -> nn.Module:
        """The encoder with its trained weights: crops (B, C, *S) -> feature maps, fine to coarse."""
        from pipelines.models import new_encoder, open_model

        loaded = open_model(self.folder)
        network = new_encoder(loaded.recipe, loaded.contract)
        network.load_state_dict(loaded.part("encoder"))
        return network.eval()


def load(model: str | Path, *, home: str | Path | None = None) -> Handle:
    """What a registry URI ("models:/brain-tumor-encoder@champion") or a folder names.

    Args:
        model: URI or folder of an encoder or a model.
        home: where registry and store are; found as on the command line by default.
    """
    from flows.settings import find_home, prepare_environment

    found = find_home(Path(home) if home is not None else None)
    prepare_environment(found)
    from pipelines.registry import resolve

    return Handle(resolve(found, str(model)), found)


class _Predictor:
    """What MLflow gets from `_load_pyfunc`."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """One dict a subject; `out` in `params` says where the files go, a new temporary folder otherwise.

        Args:
            model_input: paths of files or folders, as a list or as the first column of a DataFrame.
            params: optionally {"out": folder}.
        """
        column = model_input.iloc[:, 0].tolist() if hasattr(model_input, "iloc") else list(model_input)
        out = (params or {}).get("out") or tempfile.mkdtemp(prefix="selfsight-")
        return self._handle.predict(column, out)


def _load_pyfunc(data_path: str) -> _Predictor:
    """MLflow's way in (`loader_module="selfsight"`): safetensors from `data_path`, no pickle."""
    return _Predictor(Handle(Path(data_path), Path(tempfile.gettempdir())))
