"""Documentation that cannot rot: the command page is what the program says."""

from __future__ import annotations

import importlib.util
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
