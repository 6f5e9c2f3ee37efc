"""Documentation that cannot rot: the command page is what the program says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from typer.main import get_command

from flows.cli import app

ROOT = Path(__file__).resolve().parents[1]


def cli_reference():
    spec = importlib.util.spec_from_file_location("cli_reference", ROOT / "tests" / "cli_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_cli_page__is_what_make_docs_writes():
    assert (ROOT / "docs" / "cli.md").read_text() == cli_reference().reference(), "run `make docs`"


def test_cli_page__every_command_option_and_argument_has_help():
    for names, command in cli_reference().commands(get_command(app)):
        assert command.help, names
        for parameter in command.params:
            assert parameter.help, (names, parameter.name)


def test_faults_page__every_test_it_names_is_there():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "faults.md").read_text()))
    tests = "\n".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    assert named and not {name for name in named if f"def {name}(" not in tests}
