"""The house rules that a machine can check: captions, sizes, layers, names, and documents that do not rot."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from readme_map import PACKAGES, ROOT, caption, modules, with_map

from ssl_models import encoders, objectives
from ssl_models.protocols import Batch, Geometry

NOT_OURS = {".git", ".venv", ".selfsight", "__pycache__", "build", "dist"}
MOST_LINES = 400
DOMAINS = sorted(p.name for p in (ROOT / "domains").iterdir() if (p / "__init__.py").is_file())


@cache
def all_ours() -> tuple[Path, ...]:
    """Every file of the project, relative to its root; folders that are not ours are not entered."""
    found = []
    for folder, inside, files in os.walk(ROOT):
        inside[:] = [name for name in inside if name not in NOT_OURS and not name.endswith(("_cache", ".egg-info"))]
        found += [Path(folder, name).relative_to(ROOT) for name in files]
    return tuple(sorted(found))


def ours(*suffixes: str) -> list[Path]:
    """Files of the project with one of the suffixes."""
    return [file for file in all_ours() if file.suffix in suffixes]


def imports(file: Path) -> Iterator[str]:
    """Dotted names of everything a module imports, at its top or inside functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:  # relative: from . and from .. count from the module's own package
                package = file.relative_to(ROOT).parent.parts
                module = ".".join([*package[: len(package) - node.level + 1], *([module] if module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def test_captions__every_file_begins_with_one():
    without = [str(file) for file in ours(".py") if not (ROOT / file).read_text().startswith('"""')]
    without += [str(file) for file in ours(".py") if len(caption(ROOT / file).split()) < 2]
    without += [str(file) for file in ours(".md") if not (ROOT / file).read_text().startswith("# ")]
    assert not without


def test_size__no_file_of_more_than_400_lines():
    long = {str(file): n for file in ours(".py", ".j2") if (n := (ROOT / file).read_text().count("\n")) > MOST_LINES}
    assert not long


def test_names__no_utils():
    assert not [str(file) for file in ours(".py") if file.stem in {"utils", "util", "helpers", "misc", "common"}]


@pytest.mark.parametrize("name", DOMAINS)
def test_domains__do_not_import_each_other(name):
    others = {f"domains.{other}" for other in DOMAINS if other != name}
    for file in (ROOT / "domains" / name).rglob("*.py"):
        breaches = [found for found in imports(file) if ".".join(found.split(".")[:2]) in others]
        assert not breaches, file


def test_domains__what_they_share_names_none_of_them():
    for file in (
        *(ROOT / "domains").glob("*.py"),
        *(ROOT / "pipelines").glob("*.py"),
        *(ROOT / "ssl_models").rglob("*.py"),
    ):
        breaches = [found for found in imports(file) if found.split(".")[:2] in [["domains", name] for name in DOMAINS]]
        assert not breaches, file


def test_imports__sees_relative_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    file = tmp_path / "domains" / "one" / "data.py"
    file.parent.mkdir(parents=True)
    file.write_text("def f():\n    from ..two import data\n    import domains.three\n")
    assert list(imports(file)) == ["domains.two.data", "domains.three"]


def test_objectives__a_new_file_is_a_new_name(tmp_path, monkeypatch):
    (tmp_path / "brand_new.py").write_text(
        '"""A new objective."""\n\n\nclass New:\n    def __init__(self, encoder, *, share=0.5):\n'
        "        self.encoder, self.share = encoder, share\n\n\nOBJECTIVE = New\n"
    )
    monkeypatch.setattr(objectives, "__path__", [*objectives.__path__, str(tmp_path)])
    assert "brand_new" in objectives.names()
    try:
        made = objectives.build("brand_new", None, settings={"brand_new": {"share": 0.25}}, painter=None)
    finally:
        sys.modules.pop("ssl_models.objectives.brand_new", None)
    assert made.share == 0.25


def test_docstrings__every_public_function_has_one():
    without = []
    for file in modules():
        for node in ast.parse(file.read_text()).body:
            public = isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                without.append(f"{file.relative_to(ROOT)}: {node.name}")
    assert not without


def test_paths__no_machine_of_ours_is_named():
    pattern = re.compile("|".join(["/" + "work/", "/" + "tmp/w", "/" + r"home/\w+/"]))
    suffixes = (".py", ".md", ".toml", ".yaml", ".yml", ".j2", ".txt", ".lock", ".sh", "")
    breaches = {str(file) for file in ours(*suffixes) if pattern.search((ROOT / file).read_text(errors="replace"))}
    assert not breaches


def test_layers__import_linter():
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_packages__pyproject_lists_every_one():
    text = (ROOT / "pyproject.toml").read_text()
    found = {
        str(file.parent.relative_to(ROOT)).replace("/", ".")
        for top in PACKAGES
        for file in (ROOT / top).rglob("__init__.py")
    }
    assert not [name for name in sorted(found) if f'"{name}"' not in text]


def test_readme__map_is_what_the_captions_say():
    readme = (ROOT / "README.md").read_text()
    assert with_map(readme) == readme, "run `python tests/readme_map.py`"


def test_docs__links_lead_somewhere():
    broken = []
    for page in ours(".md"):
        for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)#\s]+)", (ROOT / page).read_text()):
            if "://" not in target and not (ROOT / page.parent / target).exists():
                broken.append(f"{page}: {target}")
    assert not broken


def test_docs__the_objective_that_is_shown_works():
    page = (ROOT / "docs" / "add_an_objective.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    shown: dict[str, Any] = {"__name__": "denoise"}
    exec(compile(code, "add_an_objective.md", "exec"), shown)
    geometry = Geometry(crop_shape=(16, 16), pooling=((1, 1), (2, 2)), patch_shape=(8, 8))
    encoder = encoders.build("resunet", size="tiny", in_channels=1, geometry=geometry)
    objective = shown["OBJECTIVE"](encoder, level=0.3)
    batch = Batch(crops=torch.rand(2, 1, 1, 16, 16), sample_seed=torch.tensor([1, 2]), group_id=("a", "b"))
    losses = objective(batch)
    losses.total.backward()
    assert torch.equal(objective(batch).total, losses.total)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())
    assert all(panel.shape == (2, 1, 16, 16) for panel in objective.examples(batch).values())


def test_docs__glossary_has_at_most_15_terms():
    terms = re.findall(r"^\*\*(.+?)\*\*", (ROOT / "docs" / "glossary.md").read_text(), flags=re.MULTILINE)
    assert 5 <= len(terms) <= 15 and len(terms) == len(set(terms))
