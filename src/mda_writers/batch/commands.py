"""The batch on the command line: words → one call → a table and an exit code.

Exit codes: 0 all is done, 1 some failed or lack their end (the table says which and why), 2 could
not run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from mda_writers.errors import in_words

if TYPE_CHECKING:
    from mda_writers.batch.starting import Running
    from mda_writers.batch.summary import Summary

FAILED = 1
COULD_NOT_RUN = 2

_console = Console()
_errors = Console(stderr=True)

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
    typer.Option(help="Recordings, or parts of large ones, at once; at most 4 by default.", min=1),
]
Scheduler = Annotated[
    str | None, typer.Option(help="Work on this Dask cluster, tcp://…, instead of here.")
]
Option = Annotated[
    list[str] | None,
    typer.Option("--set", help="An option of the format's writer: compression=zlib, fps=20, …"),
]
To = Annotated[str, typer.Option(help="With a folder: .ome.tiff, .ome.zarr, .mp4, …")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of the batch to an application."""
    for command in (verify, recover, convert, project, trace, dff, merge, sheet):
        app.command()(command)


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
    from mda_writers.batch.verifying import verify_all

    _run(lambda: verify_all(inputs, results, **_running(overwrite, workers, scheduler)))


def recover(inputs: Ours, workers: Workers = None, scheduler: Scheduler = None) -> None:
    """Complete interrupted recordings: their sidecar, their description, their report."""
    from mda_writers.batch.recovering import recover_all

    _run(lambda: recover_all(inputs, workers=workers, scheduler=scheduler))


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
    offset: Annotated[float, typer.Option(help="What the camera gives in the dark.")] = 0.0,
    overwrite: Overwrite = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Write ΔF/F = (F - F0) / (F0 - offset) of traces, as CSV."""
    from mda_writers.batch.delta_f import dff as dff_of_traces

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
    """Do it, tell what came of it, and exit."""
    from mda_writers.batch.summary import BatchError

    try:
        summary = call()
    except BatchError as error:
        summary = error.summary
    except Exception as error:
        _errors.print(
            f"[red]{type(error).__name__}[/red]: {escape(in_words(error))}", soft_wrap=True
        )
        raise typer.Exit(COULD_NOT_RUN) from error
    if len(summary.results) == 1:  # of several there was a table
        (result,) = summary.results
        remark = f": {result.reason}" if result.reason else ""
        _console.print(escape(f"{result.status} {result.output}{remark}"), soft_wrap=True)
    else:
        _console.print(str(summary))
    raise typer.Exit(0 if summary.fine else FAILED)


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
