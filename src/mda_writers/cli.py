"""The command line: ``python -m mda_writers``, also installed as ``mda-writers``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from mda_writers.bench.command import bench
from mda_writers.errors import in_words

if TYPE_CHECKING:
    from mda_writers.batch.api import Running
    from mda_writers.batch.executor import Summary


# Exit codes: 0 all is well or done; 1 something was found, or failed (incomplete, corrupt,
# different: the table says what); 2 could not run.
FOUND = 1
COULD_NOT_RUN = 2

app = typer.Typer(
    name="mda-writers",
    help="Save what a microscope acquires, and check, convert and report what was saved.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_console = Console()
_errors = Console(stderr=True)

Recording = Annotated[Path, typer.Argument(help="A recording: its file or folder.")]

Inputs = Annotated[
    list[Path], typer.Argument(help="Recordings, images or videos; or folders that hold some.")
]
Ours = Annotated[
    list[Path], typer.Argument(help="Recordings of this package, or folders that hold some.")
]
Output = Annotated[
    Path, typer.Option("-o", "--output", help="The result; or a folder for the results of all.")
]
Result = Annotated[Path, typer.Option("-o", "--output", help="The result's file or folder.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace other results of the same names.")
]
Workers = Annotated[
    int | None,
    typer.Option(help="Recordings, or pieces of large ones, at once; at most 4 by default.", min=1),
]
Scheduler = Annotated[
    str | None, typer.Option(help="Work on this Dask cluster, tcp://…, instead of here.")
]
Option = Annotated[
    list[str] | None,
    typer.Option("--set", help="An option of the format's writer: compression=zlib, fps=20, …"),
]
To = Annotated[str, typer.Option(help="With a folder: .ome.tiff, .ome.zarr, .mp4, …")]


# The command line: words → one library call → one printed result and an exit code.


def main() -> None:
    """Run the command line."""
    app()


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="A folder for the recordings.")] = Path("demo_out"),
) -> None:
    """Record a simulated microscope with every writer, read everything back, record a session."""
    from mda_writers.demo import run_demo

    with _reported():
        result = run_demo(_free_folder(out))
    _print_tree(result.folder)
    for finding in result.findings:
        text = escape(finding.text)
        _console.print(text if finding.fine else f"[red]{text}[/red]", soft_wrap=True)
    for page in result.pages:
        _console.print(f"HTML report: {page}", soft_wrap=True)
    raise typer.Exit(0 if all(finding.fine for finding in result.findings) else FOUND)


@app.command()
def info(path: Recording) -> None:
    """Say what a recording holds, and whether it is complete."""
    from mda_writers.dataset.opening import open_dataset

    table = Table(show_header=False, box=None)
    with _reported(), open_dataset(path) as dataset:
        for name, value in dataset.summary().items():
            table.add_row(name, value)
        complete = dataset.complete
    _console.print(table)
    raise typer.Exit(0 if complete else FOUND)


@app.command()
def report(
    path: Annotated[Path, typer.Argument(help="A recording, or the folder of a session.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The HTML file; by default next to the recording."),
    ] = None,
    check: Annotated[
        bool | None,
        typer.Option(
            "--verify/--no-verify", help="Read every frame back; by default where that is quick."
        ),
    ] = None,
) -> None:
    """Write the HTML report of a recording, or of a session."""
    from mda_writers.report.page import write_page

    with _reported():
        page, readable = write_page(path, output, verify=check)
    _console.print(str(page), soft_wrap=True)
    if not readable:
        _console.print("[red]Not all of it could be read; the page says what.[/red]")
        raise typer.Exit(FOUND)


@contextmanager
def _reported() -> Iterator[None]:
    """Print what kept the library from doing it, in its own sentence, and end with 2."""
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
    from mda_writers.storage.disk_space import human_bytes

    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files)
        tree.add(f"{escape(path.name)}/  [dim]{len(files)} files, {human_bytes(size)}[/dim]")
        return
    tree.add(f"{escape(path.name)}  [dim]{human_bytes(path.stat().st_size)}[/dim]")


# The batch on the command line.


@app.command()
def verify(
    inputs: Ours,
    results: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="A folder for the results, NAME_verify.json: what is in it is not read again.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Read every frame back, and name those that are not what was written."""
    from mda_writers.batch.many import verify_all

    _run(lambda: verify_all(inputs, results, **_running(overwrite, workers, scheduler)))


@app.command()
def recover(inputs: Ours, workers: Workers = None, scheduler: Scheduler = None) -> None:
    """Complete interrupted recordings: their sidecar, their description, their report."""
    from mda_writers.batch.many import recover_all

    _run(lambda: recover_all(inputs, workers=workers, scheduler=scheduler))


@app.command()
def convert(
    inputs: Inputs,
    output: Output,
    to: To = "",
    levels: Annotated[
        int | None, typer.Option(help="Levels of an OME-Zarr's pyramid.", min=1)
    ] = None,
    contrast: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Of a video: the values that are shown black and white."),
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Of a video: frames per second.")] = None,
    option: Option = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Convert recordings between OME-TIFF, OME-Zarr and video."""
    from mda_writers.batch.conversion import convert as convert_recordings

    named = {"levels": levels, "contrast_limits": contrast, "fps": fps}
    _run(
        lambda: convert_recordings(
            inputs,
            output,
            suffix=to,
            **_running(overwrite, workers, scheduler),
            **{name: value for name, value in named.items() if value is not None},
            **_options(option),
        )
    )


@app.command()
def project(
    inputs: Inputs,
    output: Output,
    axes: Annotated[str, typer.Option(help="Axes to project along: z, t, c, tz, …")] = "z",
    to: To = ".ome.tiff",
    option: Option = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Make maximum projections."""
    from mda_writers.batch.projection import project as project_recordings

    _run(
        lambda: project_recordings(
            inputs,
            output,
            axes=axes,
            suffix=to,
            options=_options(option),
            **_running(overwrite, workers, scheduler),
        )
    )


@app.command()
def trace(
    inputs: Inputs,
    output: Output,
    region: Annotated[
        list[str] | None, typer.Option(help="name=y0:y1,x0:x1 in pixels; may be repeated.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="A label image (.npy, TIFF): each value is a region.")
    ] = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Write the mean over regions for each frame, as CSV."""
    from mda_writers.batch.traces import trace as trace_recordings

    _run(
        lambda: trace_recordings(
            inputs,
            output,
            regions=dict(map(_box, region or [])),
            labels=labels,
            **_running(overwrite, workers, scheduler),
        )
    )


@app.command()
def dff(
    inputs: Annotated[list[Path], typer.Argument(help="Tables that `trace` wrote, or folders.")],
    output: Output,
    percentile: Annotated[
        float, typer.Option(help="That percentile of F is the baseline F0.", min=0, max=100)
    ],
    window: Annotated[
        int | None,
        typer.Option(help="Frames around each that F0 is taken from; by default all.", min=1),
    ] = None,
    offset: Annotated[float, typer.Option(help="Camera offset (dark level) in counts.")] = 0.0,
    overwrite: Overwrite = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Write ΔF/F = (F - F0) / (F0 - offset) of traces, as CSV."""
    from mda_writers.batch.traces import dff as dff_of_traces

    _run(
        lambda: dff_of_traces(
            inputs,
            output,
            percentile=percentile,
            window_frames=window,
            offset=offset,
            **_running(overwrite, workers, scheduler),
        )
    )


@app.command()
def merge(
    inputs: Inputs,
    output: Result,
    name: Annotated[
        list[str] | None, typer.Option(help="Name of a position, in the order of the recordings.")
    ] = None,
    option: Option = None,
    overwrite: Overwrite = False,
) -> None:
    """Merge recordings of one position each into one recording."""
    from mda_writers.batch.merging import merge as merge_recordings

    _run(
        lambda: merge_recordings(
            inputs, output, names=name or None, options=_options(option), overwrite=overwrite
        )
    )


@app.command()
def sheet(
    inputs: Inputs,
    output: Result,
    tile: Annotated[int, typer.Option(help="Height and width of a picture.", min=32)] = 192,
    columns: Annotated[int | None, typer.Option(help="Pictures in a row.", min=1)] = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw a contact sheet: a PNG with a picture of every image and channel."""
    from mda_writers.batch.contact import contact_sheet

    _run(lambda: contact_sheet(inputs, output, tile=tile, columns=columns, overwrite=overwrite))


def _run(call: Callable[[], Summary]) -> None:
    """Do it, print what came of it, and exit."""
    from mda_writers.batch.executor import BatchError

    with _reported():
        try:
            summary = call()
        except BatchError as error:
            summary = error.summary
    if len(summary.results) == 1:  # of several there was a table
        (result,) = summary.results
        remark = f": {result.reason}" if result.reason else ""
        _console.print(escape(f"{result.status} {result.output}{remark}"), soft_wrap=True)
    else:
        _console.print(str(summary))
    raise typer.Exit(0 if summary.fine else FOUND)


def _running(overwrite: bool, workers: int | None, scheduler: str | None) -> Running:
    return {"overwrite": overwrite, "workers": workers, "scheduler": scheduler}


def _options(given: list[str] | None) -> dict[str, Any]:
    """Return ``name=value`` texts as options: numbers where they are numbers."""
    import orjson

    found: dict[str, Any] = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"--set takes name=value, not {text!r}.")
        try:
            found[name] = orjson.loads(value)
        except orjson.JSONDecodeError:
            found[name] = value
    return found


def _box(text: str) -> tuple[str, tuple[int, int, int, int]]:
    name, _, rest = text.partition("=")
    try:
        (top, bottom), (left, right) = (map(int, part.split(":")) for part in rest.split(","))
    except ValueError:
        raise ValueError(f"--region takes name=y0:y1,x0:x1, not {text!r}.") from None
    return name, (top, bottom, left, right)


app.command()(bench)
