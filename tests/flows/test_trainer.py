"""A training in a process of its own comes back as an answer or as the typed error it ended with."""

from __future__ import annotations

import os
import signal
import stat
import threading

import pytest

from domains.errors import Diverged, GateRefused, NothingUsable, Preempted, SelfsightError, UsageError
from domains.recipe import Finetune, Frozen, Pretrain, Recipe
from flows import trainer
from flows.stopping import Stop, in_thread, owning_signals


class NoSettings(Frozen):
    pass


RECIPE = Recipe(
    name="made_up", domain="none", head="none", data=NoSettings(),
    pretrain=Pretrain(steps=3, batch_size=2, learning_rate=1e-3),
    finetune=Finetune(steps=3, batch_size=2, learning_rate=1e-3),
)  # fmt: skip


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Makes `body` (shell) take the place of the Python that runs the trainer."""

    def use(body: str) -> None:
        script = tmp_path / "python"
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(trainer.sys, "executable", str(script))

    return use


def train(tmp_path, stop=None):
    return trainer.train_apart("pretrain", "--data", "m", recipe=RECIPE, count=1, home=tmp_path, stop=stop or Stop())


def test_train_apart__gives_the_last_line_and_passes_the_recipe_on(program, tmp_path):
    program(f"""cat > {tmp_path}/recipe.yaml; echo "$@" $SELFSIGHT_PARENT > {tmp_path}/call
                echo noise; echo '{{"folder": "f"}}'""")
    assert train(tmp_path) == {"folder": "f"}
    assert (tmp_path / "recipe.yaml").read_text() == RECIPE.to_yaml()
    said = (tmp_path / "call").read_text().split()
    assert said[:6] == ["-m", "flows.cli", "pretrain", "made_up", "--data", "m"]
    assert said[-1] == str(os.getpid()) and "--json" in said


@pytest.mark.parametrize(
    ("code", "kind"),
    [(2, UsageError), (3, NothingUsable), (4, GateRefused), (75, Preempted), (76, Diverged), (1, SelfsightError)],
)
def test_train_apart__exit_code_is_a_typed_error_with_the_trainers_words(program, tmp_path, code, kind):
    program(f"""cat > /dev/null; echo '{{"error": "because", "exit_code": {code}}}'; exit {code}""")
    with pytest.raises(SelfsightError, match=r"^because$") as raised:
        train(tmp_path)
    assert type(raised.value) is kind and raised.value.exit_code == code


def test_train_apart__a_kill_from_outside_is_named(program, tmp_path):
    program("kill -9 $$")
    with pytest.raises(SelfsightError, match=r"signal 9.*memory"):
        train(tmp_path)


def test_train_apart__stopped_before_it_could_save(program, tmp_path):
    program("cat > /dev/null; sleep 60")
    with owning_signals() as stop:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(Preempted, match="same command"):
            in_thread(lambda: train(tmp_path, stop), stop)


def test_train_apart__nothing_is_started_after_a_stop(program, tmp_path):
    program(f"touch {tmp_path}/started")
    with owning_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Preempted):
            train(tmp_path, stop)
    assert not (tmp_path / "started").exists()
