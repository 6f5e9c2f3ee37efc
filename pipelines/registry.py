"""The model registry in MLflow: versions, aliases and tags, asked for by name and never by reading runs."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domains.errors import UsageError
from domains.store import locked
from pipelines.checkpoint import Damaged, read_model
from pipelines.tracking import LONGEST_TAG, client, experiment_id, tracked_inside, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

Model = dict[str, Any]
"""A registered version: name, version, uri, aliases, tags, run_id, description, created (ms since 1970)."""

CARD = "MODEL_CARD.md"
PAGE = 1000
ALIAS_DUE = "alias_due"
"""Tag of a version that was made, and had its alias not yet: gone as soon as it has."""
MOST_NAMED = 20
"""Models that an error names."""


@contextmanager
def registry_locked(home: Path) -> Iterator[None]:
    """Whoever changes the registry of a home holds this; nothing inside it may ask for it again."""
    with locked(Path(home) / "locks" / "registry"):
        yield


def register_model(
    home: Path, name: str, model_folder: Path, *, run_id: str | None, alias: str | None, tags: Mapping[str, str],
    description: str, card: str = "",
) -> str:  # fmt: skip
    """A model folder as a new version of `name`: "models:/name/3". It loads with pickles off.

    The same weights twice give the version there is, untouched, aliases included; where a kill came between a version
    and its alias, the alias is given now.

    Args:
        run_id: the MLflow run it came from; a run of its own is made where there is none.
        alias: given to the new version, taken from the one that had it.
        card: the model card, Markdown; kept beside the weights.
    """
    _, info = read_model(model_folder)
    mlflow = client(home)
    with registry_locked(home), tempfile.TemporaryDirectory() as scratch:
        for same in with_weights(home, name, info["sha256"]):
            if (due := same["tags"].get(ALIAS_DUE)) and not same["aliases"]:
                _give(mlflow, name, due, str(same["version"]))
            return str(same["uri"])
        if run_id is None:
            run_id = mlflow.create_run(experiment_id(mlflow, name, home), run_name="register").info.run_id
            mlflow.set_terminated(run_id)
        _write_pyfunc(model_folder, card, Path(scratch) / "model")
        mlflow.log_artifacts(run_id, str(Path(scratch) / "model"), f"models/{name}")
        if not mlflow.search_registered_models(_named(name)):
            mlflow.create_registered_model(name)
        source = f"{mlflow.get_run(run_id).info.artifact_uri}/models/{name}"
        given = {key: value[:LONGEST_TAG] for key, value in tags.items()} | {"weights_sha256": info["sha256"]}
        given |= {ALIAS_DUE: alias} if alias else {}
        made = mlflow.create_model_version(name, source, run_id, tags=given, description=description)
        if alias:
            _give(mlflow, name, alias, made.version)
    return f"models:/{name}/{made.version}"


def _give(mlflow: MlflowClient, name: str, alias: str, version: str) -> None:
    mlflow.set_registered_model_alias(name, alias, version)
    mlflow.delete_model_version_tag(name, version, ALIAS_DUE)


def _write_pyfunc(model_folder: Path, card: str, target: Path) -> None:
    """MLflow's own format around a model folder: `mlflow.pyfunc.load_model` calls `selfsight._load_pyfunc`."""
    from importlib.metadata import version

    import mlflow.pyfunc
    import pandas
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, Schema

    packages = [f"{name}=={version(name)}" for name in ("torch", "safetensors", "monai")]
    either = Schema([ColSpec("string", name, required=False) for name in ("path", "content")])
    mlflow.pyfunc.save_model(
        str(target), loader_module="selfsight", data_path=str(model_folder), pip_requirements=packages,
        signature=ModelSignature(inputs=either),
        input_example=pandas.DataFrame({"path": ["scan.nii.gz"]}),
    )  # fmt: skip
    if card:
        (target / CARD).write_text(card)


def resolve(home: Path, reference: str | Path) -> Path:
    """The model folder of "models:/name@alias", "models:/name/3", "models:/name" (the newest), or a folder's path.

    Raises:
        UsageError: there is none; the text names those there are.
        Damaged: the weights are not those that were registered.
    """
    text = str(reference)
    if not text.startswith("models:/"):
        if not (Path(text) / "model.json").is_file():
            raise UsageError(f"{text} is not a model folder (it has no model.json). {_known(home)}")
        return Path(text)
    return weights_folder(home, find_version(home, text))


def find_version(home: Path, reference: str) -> Model:
    """The version that "models:/name@alias", "models:/name/3" or "models:/name" (the newest) names.

    Raises:
        UsageError: there is none; the text names those there are.
    """
    if not reference.startswith("models:/"):
        raise UsageError(f"{reference} is no registry URI such as models:/NAME@challenger. {_known(home)}")
    name, _, alias = reference.removeprefix("models:/").partition("@")
    name, _, number = name.partition("/")
    if alias:
        number = aliases_of(home, name).get(alias, "none")
    found = []
    if number.isdigit():
        found = _search(home, f"{_named(name)} AND version_number = {int(number)}", most=1)
    elif not number:
        found = _search(home, _named(name), most=1)
    if not found:
        raise UsageError(f"there is no {reference} in the registry. {_known(home)}")
    return found[0]


def with_weights(home: Path, name: str, sha256: str) -> list[Model]:
    """The versions of a name with these weights: one at most, unless another program has registered them too."""
    return _search(home, f"{_named(name)} AND tags.weights_sha256 = '{sha256}'")


def list_models(home: Path, name: str | None = None) -> list[Model]:
    """Every registered version, or those of a name, by name, oldest first."""
    return sorted(_search(home, _named(name) if name else ""), key=lambda v: (v["name"], v["version"]))


def aliases_of(home: Path, name: str) -> dict[str, str]:
    """Alias -> version number of a name; none where there is no such name."""
    if not _is_there(home):
        return {}
    found = client(home).search_registered_models(_named(name), max_results=1)
    return {alias: str(version) for alias, version in found[0].aliases.items()} if found else {}


def set_alias(home: Path, name: str, alias: str, version: str | None) -> None:
    """Gives an alias to a version, or takes it away; the same twice is as once. The caller holds the registry."""
    mlflow = client(home)
    if version is not None:
        mlflow.set_registered_model_alias(name, alias, version)
    elif alias in aliases_of(home, name):
        mlflow.delete_registered_model_alias(name, alias)


def note_decision(home: Path, model: Model, file: Path, tags: Mapping[str, str]) -> None:
    """Puts tags on a version and a decision's file among the artifacts of its run."""
    mlflow = client(home)
    for key, value in tags.items():
        mlflow.set_model_version_tag(model["name"], str(model["version"]), key, value[:LONGEST_TAG])
    if model["run_id"]:
        mlflow.log_artifact(model["run_id"], str(file), "decisions")


def artifacts_folder(home: Path, model: Model) -> Path:
    """The artifacts of a version on this disk: in place for a local registry, else a copy in the home."""
    mlflow = client(home)
    import mlflow.artifacts as artifacts

    uri = mlflow.get_model_version_download_uri(model["name"], str(model["version"]))
    if uri.startswith("file:"):
        return Path(artifacts.download_artifacts(uri))
    place = Path(home) / "registry" / model["name"] / f"{model['version']}-{model['tags']['weights_sha256'][:12]}"
    with registry_locked(home):
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
                got = artifacts.download_artifacts(uri, dst_path=scratch, tracking_uri=tracking_uri(home))
                os.rename(got, place)
    return place


def weights_folder(home: Path, model: Model) -> Path:
    """The model folder among the artifacts of a version.

    Raises:
        Damaged: it does not hold the weights that were registered.
    """
    folder = next(file.parent for file in sorted(artifacts_folder(home, model).rglob("model.json")))
    if json.loads((folder / "model.json").read_text())["sha256"] != model["tags"]["weights_sha256"]:
        raise Damaged(f"{model['uri']}: {folder} does not hold the weights that were registered")
    return folder


def load_as_mlflow_does(folder: Path) -> Any:
    """The artifacts of a version through `mlflow.pyfunc.load_model`, without a registry."""
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(str(folder))


def _named(name: str) -> str:
    """MLflow's filter for a name."""
    if "'" in name:
        raise UsageError(f"{name!r} is no name of a registered model: it has a quote in it")
    return f"name = '{name}'"


def _search(home: Path, asked: str, most: int | None = None) -> list[Model]:
    """The versions that MLflow's filter finds, newest first; `most` of them, or all."""
    if not _is_there(home):
        return []
    mlflow, found, token = client(home), [], None
    aliases: dict[str, Mapping[str, Any]] = {}
    while True:
        page = mlflow.search_model_versions(
            asked or None, max_results=most or PAGE, order_by=["version_number DESC"], page_token=token
        )
        for name in {version.name for version in page} - aliases.keys():
            aliases[name] = mlflow.get_registered_model(name).aliases
        found += [_as_model(version, aliases[version.name]) for version in page]
        token = page.token
        if most or not token:
            return found


def _as_model(found: ModelVersion, aliases: Mapping[str, Any]) -> Model:
    return {
        "name": found.name, "version": int(found.version), "uri": f"models:/{found.name}/{found.version}",
        "aliases": sorted(alias for alias, at in aliases.items() if str(at) == str(found.version)),
        "tags": dict(found.tags), "run_id": found.run_id, "description": found.description or "",
        "created": found.creation_timestamp,
    }  # fmt: skip


def _is_there(home: Path) -> bool:
    """Whether there is a registry to ask; asking makes none."""
    return not tracked_inside(home) or (Path(home) / "mlflow.db").exists()


def _known(home: Path) -> str:
    found = list(client(home).search_registered_models(max_results=MOST_NAMED)) if _is_there(home) else []
    known = [f"models:/{m.name}/{max(int(v.version) for v in m.latest_versions)}" for m in found if m.latest_versions]
    known += [f"models:/{m.name}@{alias}" for m in found for alias in sorted(m.aliases)]
    if not known:
        return "The registry is empty: `selfsight register` adds to it"
    return f"The registry has: {', '.join(known)}"
