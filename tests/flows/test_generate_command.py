"""`selfsight generate` writes an archive that `dataset check` knows, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app


@pytest.mark.usefixtures("calm")
def test_generate__an_archive_by_seed__and_never_over_something(tmp_path: Path) -> None:
    def typed(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, [*words, "--home", str(tmp_path / "home")])
        return done.exit_code, done.stdout + done.stderr

    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert typed("generate", "medical", "--out", str(tmp_path / name), "--subjects", "2", "--seed", seed)[0] == 0
    first, again, other = (
        {str(p.relative_to(tmp_path / name)): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("a", "b", "c")
    )
    assert first == again and first != other
    assert "2 candidate subjects, 2 groups, 2 labels" in typed("dataset", "check", str(tmp_path / "a"))[1]
    code, text = typed("generate", "medical", "--out", str(tmp_path / "a"))
    assert code == 2 and "there already" in text
    code, text = typed("generate", "language", "--out", str(tmp_path / "d"))
    assert code == 2 and "driving, medical" in text and not (tmp_path / "d").exists()
