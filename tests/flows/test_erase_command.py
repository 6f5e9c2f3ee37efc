"""`selfsight erase`: refused with the list of what would go where nobody can be asked, and done with --yes."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner
from xray_files import write_archive

from domains.domain import find_recipe
from domains.identity import Identity
from domains.manifest import read_manifest
from flows.cli import app
from pipelines.ingest import ingest


@pytest.mark.usefixtures("calm")
def test_erase__asks_refuses_and_erases(tmp_path: Path) -> None:
    home = tmp_path / "home"
    write_archive(tmp_path / "clinic", 3)
    manifest = read_manifest(ingest(tmp_path / "clinic", find_recipe("chest_xray")[1], home).manifest)
    group = manifest.subjects[0].group_id
    named = Identity().whois([group])[group]

    def erase(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["erase", *words, "--home", str(home)])
        return done.exit_code, done.stdout + done.stderr

    code, said = erase(named)
    assert code == 2 and "nothing is erased without --yes" in said and f"group {group}" in said
    assert "no encoder and no model saw it" in said and not (home / "erased.json").exists()
    code, said = erase("nobody: of that name")
    assert code == 2 and "GROUP is the keyed id" in said
    code, said = erase(named, "--yes")
    assert code == 0 and f"erased {group}" in said and (home / "erased.json").exists()
    code, said = erase(group, "--lift")
    assert code == 0 and "takes it in" in said
