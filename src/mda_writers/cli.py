"""The command line: words → one library call → one printed result and an exit code.

Exit codes: 0 fine, 1 something was found (incomplete, corrupt, different), 2 could not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from mda_writers.batch.commands import add_to
from mda_writers.bench.command import bench

FOUND = 1
COULD_NOT_RUN = 2

app = typer.Typer(
    name="mda-writers",
    help="Save what a microscope acquires, and look after what was saved.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_console = Console()
_errors = Console(stderr=True)

Recording = Annotated[Path, typer.Argument(help="A recording: its file or folder.")]
Recordings = Annotated[
    list[Path], typer.Argument(help="Recordings, or folders with recordings in them.")
]


def main() -> None:
    """Run the command line."""
    app()


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="A folder for the recordings.")] = Path("demo_out"),
) -> None:
    """Record a simulated microscope with every writer, and read everything back."""
    from mda_writers.demo import run_demo

    with _told():
        result = run_demo(_free_folder(out))
    _print_tree(result.folder)
    for report in result.reports:
        _console.print(
            f"{Path(report.path).name}: {report.frames_written} of {result.frames} frames on disk, "
            f"{report.mb_per_s:.0f} MB/s"
        )
    for name, count in result.differing.items():
        _console.print(_verdict(name, result.frames, count))
    _console.print(f"A page about it all: {result.page}", soft_wrap=True)
    complete = all(report.complete for report in result.reports)
    raise typer.Exit(0 if complete and not any(result.differing.values()) else FOUND)


@app.command()
def info(path: Recording) -> None:
    """Say what a recording holds, and whether it is complete."""
    from mda_writers.dataset.opening import open_dataset

    table = Table(show_header=False, box=None)
    with _told(), open_dataset(path) as dataset:
        for name, value in dataset.summary().items():
            table.add_row(name, value)
        complete = dataset.complete
    _console.print(table)
    raise typer.Exit(0 if complete else FOUND)


@app.command()
def verify(paths: Recordings) -> None:
    """Read every frame back, and name those that are not what was written."""
    _for_each(paths, _verify)


@app.command()
def recover(paths: Recordings) -> None:
    """Complete interrupted recordings: their sidecar, their description, their report."""
    _for_each(paths, _recover)


@app.command()
def report(
    path: Annotated[Path, typer.Argument(help="A recording, or the folder of a session.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The page; by default beside it.")
    ] = None,
    check: Annotated[
        bool | None,
        typer.Option(
            "--verify/--no-verify", help="Read every frame back; by default where that is quick."
        ),
    ] = None,
) -> None:
    """Write a page about a recording, or about all of a session, to look at in a browser."""
    from mda_writers.report.page import write_report_page

    with _told():
        page = write_report_page(path, output, verify=check)
    _console.print(str(page), soft_wrap=True)


app.command()(bench)
add_to(app)


@contextmanager
def _told() -> Iterator[None]:
    """Tell what kept the library from doing it, in its own sentence, and end with 2."""
    from mda_writers.errors import WriteError

    try:
        yield
    except (WriteError, OSError, ValueError, RuntimeError) as error:
        _errors.print(f"[red]{type(error).__name__}[/red]: {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(COULD_NOT_RUN) from error


def _for_each(paths: list[Path], work: Callable[[Path], bool]) -> NoReturn:
    """Do something to every recording that is named, or lies in a folder that is.

    Ends with how it went: 2 where nothing could be done, 1 where something was found.
    """
    from mda_writers.batch.inputs import our_recordings

    with _told():
        recordings = our_recordings(paths)
    went: dict[Path, int] = {}
    for path in recordings:
        if len(recordings) > 1:
            _console.rule(escape(str(path)), align="left")
        try:
            with _told():
                went[path] = 0 if work(path) else FOUND
        except typer.Exit as end:
            went[path] = end.exit_code
    if len(recordings) > 1:
        fine = sum(code == 0 for code in went.values())
        _console.rule(f"{fine} of {len(went)} recordings are fine", align="left")
        for path, code in went.items():
            if code:
                what = "something was found" if code == FOUND else "could not be read"
                _console.print(f"{path}: {what}", soft_wrap=True, markup=False)
    every = set(went.values())
    raise typer.Exit(COULD_NOT_RUN if every == {COULD_NOT_RUN} else FOUND if any(every) else 0)


def _verify(path: Path) -> bool:
    from mda_writers.batch.verify import verify as verify_recording

    result = verify_recording(path)
    for file in result.files_missing:
        _console.print(f"[red]missing[/red] {escape(file)}", soft_wrap=True)
    for file, what in result.files_damaged.items():
        _console.print(f"[red]damaged[/red] {escape(f'{file}: {what}')}", soft_wrap=True)
    for fault in result.faults:
        index = ", ".join(f"{axis}={i}" for axis, i in fault.index.items())
        told = f"frame {fault.number} ({index}) in {fault.file}: {fault.what}"
        _console.print(f"[red]differs[/red] {escape(told)}", soft_wrap=True)
    if result.frames_lossy:
        _console.print(f"{result.frames_lossy} frames of lossy video can be decoded, no more")
    _console.print(
        f"{result.frames_checked} frames read, {result.frames_faulty} not as they were written; "
        f"{_state(result.complete, result.interrupted)}"
    )
    return result.ok


def _recover(path: Path) -> bool:
    from mda_writers.batch.recover import recover as recover_recording

    report = recover_recording(path)
    expected = "" if report.frames_expected is None else f" of {report.frames_expected} planned"
    _console.print(f"{report.frames_written}{expected} frames are on disk, with their metadata.")
    for file in report.paths:
        _console.print(file, soft_wrap=True, markup=False)
    return report.complete


def _state(complete: bool, interrupted: bool) -> str:
    if interrupted:
        return "the recording was interrupted, or still runs: `recover` completes it"
    return "the recording is complete" if complete else "the recording is not complete"


def _free_folder(folder: Path) -> Path:
    """Return `folder`, or the first of ``folder_1``, ``folder_2``, … that does not exist."""
    number, free = 0, folder
    while free.exists() and any(free.iterdir()):
        number += 1
        free = folder.with_name(f"{folder.name}_{number}")
    return free


def _verdict(name: str, frames: int, differing: int) -> str:
    if differing:
        return f"[red]{name}: {differing} of {frames} frames read back differently[/red]"
    return f"{name}: all {frames} frames read back as they were acquired"


def _print_tree(folder: Path) -> None:
    tree = Tree(f"[bold]{folder}[/bold]")
    for path in sorted(folder.iterdir()):
        _add(tree, path)
    _console.print(tree)


def _add(tree: Tree, path: Path) -> None:
    """Add a file with its size; of a folder, no more than how much is in it."""
    from mda_writers.storage.space import human_bytes

    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files)
        tree.add(f"{escape(path.name)}/  [dim]{len(files)} files, {human_bytes(size)}[/dim]")
        return
    tree.add(f"{escape(path.name)}  [dim]{human_bytes(path.stat().st_size)}[/dim]")
