"""Traces of a group outside manifests and arrays: which models saw it, what shows it, and how that is removed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from domains.erased import Seen
from domains.store import Store, write_atomically
from pipelines.registry import list_models, resolve

ROLES = ("label_groups", "pretrain_groups", "probed_groups")
"""Lists of groups in a model's lineage."""
MARK = "erased"
"""Stands in a lineage for a group that was erased, so that its length stays true."""
ARRAYS = (".b2nd", ".safetensors")
"""Suffixes of files that hold no ids."""
HEX_ZEROS = "0" * 16
"""Of an id's length: what stands in a journal, whose readers remember places in bytes."""


def seen_by(ids: Collection[str], store: Store) -> list[Seen]:
    """Every encoder and model of the home and its registry that learned from the group or was judged with it.

    Args:
        ids: of the group and of its subjects.
        store: of the home.
    """
    judged = _judged(ids, store)
    found = []
    for place, info, uris in _models(store):
        learned = [role for role in ROLES if set(info["lineage"].get(role) or ()) & set(ids)]
        where = judged.get(Path(place).name, [])
        if learned or where:
            found.append(Seen(
                kind=info["kind"], folder=place, recipe=info["recipe"]["name"], sha256=info["sha256"],
                learned=tuple(learned), judged=tuple(where), registered=tuple(uris),
            ))  # fmt: skip
    return found


def _models(store: Store) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
    """Folder below the home (or URI), `model.json` and registry URIs of every network there is."""
    uris: dict[str, list[str]] = {}
    for version in list_models(store.home):
        shown = version["uri"] + (f" ({', '.join(version['aliases'])})" if version["aliases"] else "")
        uris.setdefault(version["tags"]["weights_sha256"], []).append(shown)
    known = set()
    for file in sorted((store.home / "store").glob("*/*/model.json")):
        info = json.loads(file.read_text())
        known.add(info["sha256"])
        yield str(file.parent.relative_to(store.home)), info, uris.get(info["sha256"], [])
    for digest in sorted(uris.keys() - known):
        uri = uris[digest][0].partition(" ")[0]
        yield uri, json.loads((resolve(store.home, uri) / "model.json").read_text()), uris[digest]


def _judged(ids: Collection[str], store: Store) -> dict[str, list[str]]:
    """Store key of a model -> evaluations and studies in which it was judged with the group."""
    found: dict[str, list[str]] = {}
    for file in sorted((store.home / "store" / "evaluate").glob("*/evaluation.json")):
        result = json.loads(file.read_text())
        if any(_about(case, ids) for case in result["cases"]):
            found.setdefault(result["model"], []).append(str(file.parent.relative_to(store.home)))
    for file in sorted((store.home / "store" / "study").glob("*/study.json")):
        result, at = json.loads(file.read_text()), ("arm", "label_budget", "fold", "draw")
        cells = {tuple(case.get(part) for part in at) for case in result["cases"] if _about(case, ids)}
        for cell in result["cells"]:
            if cell["model"] and tuple(cell.get(part) for part in at) in cells:
                found.setdefault(cell["model"], []).append(str(file.parent.relative_to(store.home)))
    return {model: list(dict.fromkeys(places)) for model, places in found.items()}


def pictures_of(seen: Iterable[Seen], manifests: Collection[str], store: Store) -> list[str]:
    """What may show the group without naming it, below the home: examples of pretraining, reports, checkpoints.

    Args:
        seen: what learned from the group.
        manifests: store keys of those that list it: what was being trained on one of them may have seen it as well.
        store: of the home.
    """
    home = store.home
    learned = {Path(one.folder).name: one.sha256 for one in seen if one.learned}
    digests = set(learned.values())
    found: list[Path] = []
    for file in home.rglob("model.json"):
        if json.loads(file.read_text()).get("sha256") in digests:
            found += file.parent.glob("*.png")
    for file in sorted((home / "runs").glob("*/run.json")):
        run, (verb, _, key) = json.loads(file.read_text()), file.parent.name.partition("-")
        unfinished = verb in ("pretrain", "finetune") and store.get(verb, key) is None
        on = run["params"].get("dataset_digest")
        if key in learned or (unfinished and on and store.key("manifest", on) in manifests):
            found += [file.parent / "pictures", file.parent / "checkpoints"]
            found += (home / "mlflow-artifacts").glob(f"*/{run['run_id']}/artifacts/pictures/examples-*.png")
    for file in sorted((home / "store" / "evaluate").glob("*/evaluation.json")):
        result = json.loads(file.read_text())
        if result["model"] in learned:
            found.append(home / "reports" / f"{result['recipe']}-{file.parent.name[:12]}.html")
    return [str(path.relative_to(home)) for path in found if path.exists()]


def put_back(group_id: str, seen: Iterable[Seen], home: Path) -> None:
    """Writes a group into the lineages again from which `sweep` took it, so that what learned from it is not judged
    with it. Copies in a registry elsewhere are not reached."""
    roles = {one.sha256: one.learned for one in seen if one.learned}
    for file in home.rglob("model.json"):
        info = json.loads(file.read_text())
        for role in roles.get(info.get("sha256"), ()):
            groups = info["lineage"][role]
            if MARK in groups:
                groups.remove(MARK)
                info["lineage"][role] = sorted([*groups, group_id])
        if info.get("sha256") in roles:
            write_atomically(file, json.dumps(info, sort_keys=True, indent=1))


def sweep(home: Path, ids: Collection[str], pictures: Collection[str]) -> list[str]:
    """Removes these pictures, files named after an id, pages that name one, and every mention in JSON.

    Returns:
        Files that name one and are of no kind that is known here.
    """
    for name in pictures:
        path = home / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    left = []
    for path in sorted(home.rglob("*")):
        if not path.is_file() or path == home / "erased.json":
            continue
        if any(i in path.name for i in ids):
            path.unlink()
        elif path.suffix not in ARRAYS and _names(path, ids) and not _cleaned(path, ids):
            left.append(str(path.relative_to(home)))
    return left


def _names(path: Path, ids: Collection[str]) -> bool:
    content = path.read_bytes()
    return any(i.encode() in content for i in ids)


def _cleaned(path: Path, ids: Collection[str]) -> bool:
    """Takes the ids out of one file; False where its kind is not known."""
    if path.suffix == ".html":
        path.unlink()
        return True
    if path.suffix not in (".json", ".jsonl"):
        return False
    text, stand_in = path.read_text(), HEX_ZEROS if path.suffix == ".jsonl" else MARK
    if path.suffix == ".json" and path.name != "model.json":
        text = json.dumps(_without(json.loads(text), ids), indent=1)
    for i in ids:
        text = text.replace(i, stand_in)
    write_atomically(path, text)
    return True


def _without(value: Any, ids: Collection[str]) -> Any:
    """JSON without what is about the ids: keys, items, and objects that one of them is a value of."""
    if isinstance(value, dict):
        return {key: _without(v, ids) for key, v in value.items() if key not in ids and not _about(v, ids)}
    if isinstance(value, list):
        return [_without(v, ids) for v in value if not _about(v, ids)]
    return value


def _about(value: Any, ids: Collection[str]) -> bool:
    if isinstance(value, dict):
        return any(isinstance(v, str) and v in ids for v in value.values())
    return isinstance(value, str) and value in ids
