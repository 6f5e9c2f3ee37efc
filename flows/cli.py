"""The command line `selfsight`: the verbs of the way from a raw archive to a registered model."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from domains.errors import UsageError
from flows import looking
from flows.drift import drift
from flows.erase import erase
from flows.generate import generate
from flows.lineage import lineage, registry
from flows.next import next_to_label
from flows.options import DryRun, Epochs, Home, Json, RecipeFile, RecipeName, Set, recipe_of, with_epochs
from flows.output import Command, command
from flows.promote import promote, rollback
from flows.replicate import replicate
from flows.schedule import schedule
from flows.score import score
from flows.stopping import die_with_parent
from flows.sync import sync

app = typer.Typer(
    name="selfsight",
    help="From a raw archive of unlabelled images to a registered, evaluated model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
Data = Annotated[Path | None, typer.Option("--data", metavar="MANIFEST", help="A manifest instead of the recipe's newest one.", show_default=False)]  # fmt: skip  # noqa: E501
EXIT_CODES = """

Exit codes: 0 done, 2 wrong usage or recipe, 3 nothing usable in the data, 4 refused by a rule of proof, 75 stopped
and saved, 76 diverged, 1 anything else.
"""


@app.command()
def ingest(
    recipe: RecipeName,
    source: Annotated[Path, typer.Argument(help="Folder with the raw files.")],
    home: Home = None, as_json: Json = False, changes: Set = None, recipe_file: RecipeFile = None,
    dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Read, check and prepare a folder; every file gets a verdict."""
    with command(home, as_json) as c:
        wanted = recipe_of(recipe, changes, recipe_file)
        if dry_run:
            from flows.estimate import estimate_ingest

            return c.done(*estimate_ingest(wanted, source, c.home))
        taken = _ingested(wanted, source, c)
        c.done(taken, *_accounting(taken), f"manifest {taken['manifest']}")


@app.command()
def pretrain(
    recipe: RecipeName,
    data: Data = None,
    continued: Annotated[bool, typer.Option("--continue", help="Start from the weights of this recipe's last encoder; if it saw the same data, it is the answer.")] = False,  # noqa: E501
    home: Home = None, as_json: Json = False, changes: Set = None, recipe_file: RecipeFile = None,
    epochs: Epochs = None, dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Train an encoder on unlabelled subjects; never looks at a label."""
    with command(home, as_json) as c:
        wanted = _in_epochs(recipe_of(recipe, changes, recipe_file), "pretrain", epochs, c.home, data)
        if dry_run:
            from flows.estimate import estimate_training

            return c.done(*estimate_training("pretrain", wanted, c.home))
        from pipelines.pretrain import pretrain as verb

        _trained("pretrain", wanted, verb(wanted, c.home, data=data, continued=continued), c)


@app.command()
def finetune(
    recipe: RecipeName,
    source: Annotated[Path | None, typer.Argument(help="Labelled folder to ingest first.", show_default=False)] = None,
    encoder: Annotated[str | None, typer.Option(metavar="URI|none", help="Registry URI or folder of an encoder; none starts from scratch. Default: this recipe's own.", show_default=False)] = None,  # noqa: E501
    init: Annotated[Path | None, typer.Option(metavar="FILE", help="Start from encoder weights of your own: safetensors, or a torch state dict.", show_default=False)] = None,  # noqa: E501
    licence: Annotated[str, typer.Option(metavar="TEXT", help="Licence of the --init weights; kept with the encoder.", show_default=False)] = "",  # noqa: E501
    origin: Annotated[str, typer.Option("--source", metavar="TEXT", help="Where the --init weights come from; kept with the encoder.", show_default=False)] = "",  # noqa: E501
    label_budget: Annotated[int | None, typer.Option(min=0, metavar="K", help="How many labelled groups may be used. Default: all.", show_default=False)] = None,  # noqa: E501
    data: Data = None,
    home: Home = None, as_json: Json = False, changes: Set = None, recipe_file: RecipeFile = None,
    epochs: Epochs = None, dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Train a model on labels, starting from an encoder or from scratch."""
    with command(home, as_json) as c:
        wanted = recipe_of(recipe, changes, recipe_file)
        if init is None and (licence or origin):
            raise UsageError("--licence and --source are about the weights of --init FILE")
        if init is not None and encoder is not None:
            raise UsageError("--init and --encoder are two ways to say where to start: give one")
        if source is not None:
            _ingested(wanted, source, c, like=encoder)
        wanted = _in_epochs(wanted, "finetune", epochs, c.home, data)
        if dry_run:
            from flows.estimate import estimate_training

            return c.done(*estimate_training("finetune", wanted, c.home))
        from pipelines.finetune import finetune as verb

        if init is None:
            start = _encoder(encoder, wanted, c.home, data)
        else:
            start = _given(init, wanted, c.home, licence, origin, data)
        _trained("finetune", wanted, verb(wanted, c.home, encoder=start, label_budget=label_budget, data=data), c)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Registry URI or folder of a model.")],
    source: Annotated[Path | None, typer.Argument(help="Any labelled folder. Default: the held-out groups.", show_default=False)] = None,  # noqa: E501
    held_out_of: Annotated[str | None, typer.Option("--held-out-of", metavar="MODEL", help="Judge on the held-out groups of another model's data, so that the two compare.", show_default=False)] = None,  # noqa: E501
    transductive: Annotated[bool, typer.Option("--transductive", help="Allow groups that were seen in pretraining; the report says so.")] = False,  # noqa: E501
    home: Home = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Judge a model on subjects it has not learned from, beside a competitor that has learned nothing."""
    with command(home, as_json) as c:
        from pipelines.evaluate import evaluate as verb
        from pipelines.registry import resolve
        from pipelines.report import write_report

        if source is not None and held_out_of is not None:
            raise UsageError("SOURCE and --held-out-of are two ways to say what to judge on: give one")
        other = resolve(c.home, held_out_of) if held_out_of else None
        judged = verb(
            resolve(c.home, model), c.home, source=source, held_out_of=other, transductive=transductive
        )  # fmt: skip
        report = write_report(c.home, evaluation=judged.folder)
        answer = judged.to_json() | {"report": str(report)}
        c.done(answer, *looking.comparison(answer), f"evaluation {judged.folder}", f"report     {report}")


@app.command()
def study(
    recipe: RecipeName,
    source: Annotated[Path | None, typer.Argument(help="Labelled folder to ingest first.", show_default=False)] = None,
    label_budgets: Annotated[str, typer.Option(metavar="K,K,...", help="Numbers of labelled groups.")] = "0,3,10,30",
    folds: Annotated[int, typer.Option(min=2, help="Parts of the groups; each is held out once.")] = 3,
    arms: Annotated[str | None, typer.Option(metavar="NAME,NAME,...", help="Only these arms. Default: all.", show_default=False)] = None,  # noqa: E501
    draws: Annotated[int, typer.Option(min=1, help="How often each fold's labels are drawn anew.")] = 1,
    screen: Annotated[bool, typer.Option("--screen", help="Instead of the arms: every objective that fits, behind a frozen encoder, on the first fold.")] = False,  # noqa: E501
    robustness: Annotated[bool, typer.Option("--robustness", help="Judge scratch and the pretrained arms on disturbed images too: noise, blur, low contrast, another scanner.")] = False,  # noqa: E501
    test: Annotated[Path | None, typer.Option(metavar="SOURCE", help="Judge on another labelled folder instead of the folds' held-out groups.", show_default=False)] = None,  # noqa: E501
    encoder: Annotated[str | None, typer.Option(metavar="URI", help="An encoder or model of other data, as one more arm; a model of the same head is tried without labels too.", show_default=False)] = None,  # noqa: E501
    init: Annotated[Path | None, typer.Option(metavar="FILE", help="Encoder weights of your own, as one more arm.", show_default=False)] = None,  # noqa: E501
    licence: Annotated[str, typer.Option(metavar="TEXT", help="Licence of the --init weights.", show_default=False)] = "",  # noqa: E501
    origin: Annotated[str, typer.Option("--source", metavar="TEXT", help="Where the --init weights come from.", show_default=False)] = "",  # noqa: E501
    home: Home = None, as_json: Json = False, changes: Set = None, recipe_file: RecipeFile = None,
) -> None:  # fmt: skip
    """Measure when pretraining saves labels: arms x label budgets x folds, with paired intervals."""
    with command(home, as_json) as c:
        from flows.study import run_study

        wanted = recipe_of(recipe, changes, recipe_file)
        if source is not None:
            _ingested(wanted, source, c, like=encoder)
        budgets = looking.budgets_of(label_budgets)
        named = [name.strip() for name in arms.split(",")] if arms else None
        if init is not None and encoder is not None:
            raise UsageError("--init and --encoder are two ways to name the given weights: give one")
        given = (
            _given(init, wanted, c.home, licence, origin) if init else _encoder(encoder or "none", wanted, c.home, None)
        )
        result = run_study(
            wanted, c.home, label_budgets=budgets, test=test, folds=folds, arms=named, given=given, draws=draws,
            screen=screen, robustness=robustness,
        )  # fmt: skip
        c.done(result, *looking.study_lines(result))


@app.command()
def register(
    evaluation: Annotated[Path, typer.Argument(help="Folder of an evaluation, as `selfsight evaluate` prints it.")],
    home: Home = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Make an evaluated model, and its encoder, a version in the registry (alias challenger)."""
    with command(home, as_json) as c:
        from pipelines.register import register as verb

        registered = verb(evaluation, c.home)
        c.done({"model": registered.model, "encoder": registered.encoder}, f"model   {registered.model}",
               f"encoder {registered.encoder or 'none: trained from scratch'}")  # fmt: skip


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="Registry URI or folder of a model.")],
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Files or folders.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the predictions go, named after the inputs.")],
    home: Home = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Predict on raw files, in the files' own space."""
    with command(home, as_json) as c:
        from pipelines.predict import predict as verb
        from pipelines.registry import resolve

        outputs = verb(resolve(c.home, model), inputs, out, c.home)
        lines = [f"{o['input']}: " + ", ".join(o.get("files", [])) + o.get("refused", "") for o in outputs]
        c.done({"outputs": outputs}, *lines)


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="Registry URI or folder of a model or encoder.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder for the files.")],
    home: Home = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Write a model for other tools: ONNX that was tried, safetensors, JSON, and a model card."""
    with command(home, as_json) as c:
        from pipelines.export import export as verb
        from pipelines.registry import resolve

        answer = verb(resolve(c.home, model), out, c.home)
        c.done(answer, *answer["files"], f"ONNX against torch: {answer['parity']:.1e} of the largest number apart")


@app.command()
def run(
    recipe: RecipeName,
    source: Annotated[Path, typer.Argument(help="Folder with the raw files.")],
    home: Home = None, as_json: Json = False, changes: Set = None, recipe_file: RecipeFile = None,
) -> None:  # fmt: skip
    """All of it, as a Prefect flow: ingest, pretrain, finetune, evaluate, register, report."""
    with command(home, as_json) as c:
        from flows.run import run as all_verbs

        answer = all_verbs(recipe_of(recipe, changes, recipe_file), source, c.home)
        c.done(answer, *looking.summary(answer))


@app.command()
def demo(
    kind: Annotated[str, typer.Argument(help="Which domain: medical or driving.")] = "medical",
    source: Annotated[Path | None, typer.Option(metavar="DIR", help="A real folder instead of a generated archive.", show_default=False)] = None,  # noqa: E501
    home: Home = None, as_json: Json = False,
) -> None:  # fmt: skip
    """The whole way on a generated archive, in a few minutes on two cores."""
    with command(home, as_json) as c:
        from flows.demo import demo as whole_way

        answer = whole_way(kind, source, c.home)
        shown = [f"look   {file}" for file in answer.get("overlay", ())]
        c.done(answer, *looking.summary(answer), *shown, f"took {answer['seconds']:.0f} s")


app.command("next")(next_to_label)
app.command()(promote)
app.command()(rollback)
app.command()(score)
app.command()(drift)
app.command()(erase)
app.command()(generate)
app.command()(schedule)
app.command()(replicate)
app.command()(looking.doctor)
app.command()(looking.recipes)
app.command()(registry)
app.command()(lineage)
app.command()(looking.whois)
app.command()(looking.ui)
app.command()(sync)
dataset = typer.Typer(help="Look at a source folder before any work.", no_args_is_help=True)
dataset.command("check")(looking.dataset_check)
app.add_typer(dataset, name="dataset")


@app.callback(epilog=EXIT_CODES)
def _exit_codes() -> None:
    """From a raw archive of unlabelled images to a registered, evaluated model."""


def _ingested(recipe: Any, source: Path, c: Command, like: str | None = None) -> dict[str, Any]:
    """Ingests a folder; a new dataset is prepared as that of the encoder `like` was, where one is named."""
    from flows.estimate import remember_ingest
    from pipelines.dataset import find_dataset
    from pipelines.ingest import ingest as verb

    first, started = find_dataset(recipe, c.home) is None, time.monotonic()
    contract = None
    if like not in (None, "none"):
        from pipelines.models import open_model
        from pipelines.registry import resolve

        contract = open_model(resolve(c.home, like)).contract
    taken = verb(source, recipe, c.home, contract=contract)
    if first:  # later ones read only new files
        remember_ingest(recipe, taken.counts["found"], time.monotonic() - started, c.home)
    refused = [{"file": file, "reason": reason} for file, reason in taken.refused]
    return {**taken.counts, "manifest": str(taken.manifest), "manifest_digest": taken.manifest_digest,
            "missing_channels": taken.missing_channels, "refused_files": refused, "notes": taken.notes}  # fmt: skip


def _accounting(taken: dict[str, Any]) -> list[str]:
    verdicts = ", ".join(f"{taken[key]} {key}" for key in ("accepted", "refused", "labels", "ignored"))
    lines = [f"{taken['found']} files found: {verdicts}; {taken['subjects']} subjects, {taken['groups']} groups"]
    lines += [f"{count} subjects without {channels}" for channels, count in taken["missing_channels"].items()]
    lines += [f"refused {one['file']}: {one['reason']}" for one in taken["refused_files"]]
    return lines + taken["notes"]


def _in_epochs(recipe: Any, verb: str, epochs: int | None, home: Path, data: Path | None) -> Any:
    if epochs is None:
        return recipe
    from domains.splits import split
    from pipelines.dataset import open_dataset

    manifest, labels = open_dataset(recipe, home, data)
    subjects = split(manifest.subjects, recipe.fold).development
    if verb == "finetune":
        subjects = tuple(s for s in subjects if s.subject_id in labels.entries)
    return with_epochs(recipe, verb, epochs, len(subjects))


def _encoder(named: str | None, recipe: Any, home: Path, data: Path | None) -> Path | None:
    """The folder of the encoder to start from: named, or what `pretrain` of the same recipe and data gave."""
    if named == "none":
        return None
    if named is not None:
        from pipelines.registry import resolve

        return resolve(home, named)
    from domains.store import Missing, Store
    from pipelines.pretrain import pretrain as verb

    try:
        with Store.only_looking():
            return verb(recipe, home, data=data).folder
    except Missing:
        raise UsageError(
            f"no encoder is pretrained with this recipe and data; run `selfsight pretrain {recipe.name}` first, "
            "name one with --encoder, or start from scratch with --encoder none"
        ) from None


def _given(init: Path, recipe: Any, home: Path, licence: str, origin: str, data: Path | None = None) -> Path:
    """The encoder folder made of a file of weights; what fitted is told before the training, which may be long."""
    from pipelines.given_weights import describe, given_encoder

    folder = given_encoder(init, recipe, home, licence=licence, source=origin, data=data)
    print(*describe(folder), sep="\n", file=sys.stderr)
    return folder


def _trained(verb: str, recipe: Any, trained: Any, c: Command) -> None:
    from flows.estimate import remember_training

    if not trained.cached:
        remember_training(verb, recipe, trained.outcome, trained.folder, c.home)
    how = "unchanged, from the store" if trained.cached else f"{trained.outcome['steps']} steps"
    answer = {"folder": str(trained.folder), "outcome": trained.outcome, "cached": trained.cached}
    lines = [f"{verb}: {how}", f"folder {trained.folder}"]
    if verb == "pretrain":
        answer["near_duplicates"], said = looking.near_duplicates(trained.folder)
    else:
        from pipelines.finetune import notes

        said = answer["notes"] = notes(recipe)
    c.done(answer, *lines, *said)


def main() -> None:
    """Entry point of the program."""
    die_with_parent()
    app(prog_name="selfsight")


if __name__ == "__main__":
    main()
