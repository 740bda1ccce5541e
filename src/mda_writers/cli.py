"""The command line: words → one library call → one printed result and an exit code.

Exit codes: 0 fine, 1 something was found (incomplete, corrupt, different), 2 could not run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from mda_writers.batch.commands import add_to
from mda_writers.bench.command import bench
from mda_writers.errors import in_words

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


def main() -> None:
    """Run the command line."""
    app()


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="A folder for the recordings.")] = Path("demo_out"),
) -> None:
    """Record a simulated microscope with every writer, read everything back, record a session."""
    from mda_writers.demo import run_demo

    with _told():
        result = run_demo(_free_folder(out))
    _print_tree(result.folder)
    for finding in result.findings:
        text = escape(finding.text)
        _console.print(text if finding.fine else f"[red]{text}[/red]", soft_wrap=True)
    for page in result.pages:
        _console.print(f"A page about it: {page}", soft_wrap=True)
    raise typer.Exit(0 if all(finding.fine for finding in result.findings) else FOUND)


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
    from mda_writers.report.page import write_page

    with _told():
        page, readable = write_page(path, output, verify=check)
    _console.print(str(page), soft_wrap=True)
    if not readable:
        _console.print("[red]Not all of it could be read; the page says what.[/red]")
        raise typer.Exit(FOUND)


app.command()(bench)
add_to(app)


@contextmanager
def _told() -> Iterator[None]:
    """Tell what kept the library from doing it, in its own sentence, and end with 2."""
    try:
        yield
    except typer.Exit:
        raise
    except Exception as error:
        _errors.print(
            f"[red]{type(error).__name__}[/red]: {escape(in_words(error))}", soft_wrap=True
        )
        raise typer.Exit(COULD_NOT_RUN) from error


def _free_folder(folder: Path) -> Path:
    """Return `folder`, or the first of ``folder_1``, ``folder_2``, … that does not exist."""
    number, free = 0, folder
    while free.exists() and any(free.iterdir()):
        number += 1
        free = folder.with_name(f"{folder.name}_{number}")
    return free


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
