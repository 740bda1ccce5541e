"""From the words of a call to jobs, and to their results: what all batch functions share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from mda_writers.batch.executor import run_jobs
from mda_writers.batch.inputs import outputs_for
from mda_writers.batch.jobs import Job
from mda_writers.model.names import split_suffix
from mda_writers.writers import is_recording_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mda_writers.batch.executor import Summary, Task
    from mda_writers.batch.jobs import Operation


class Running(TypedDict, total=False):
    """How jobs are run; the options of every batch function.

    ``overwrite``: whether anything else of a result's name may be replaced. ``workers``: jobs at
    once on this machine. ``client``: a ``distributed.Client`` that does them instead;
    ``scheduler``: the address of one. ``progress``: whether to show a progress bar and, at the
    end, a table.
    """

    overwrite: bool
    workers: int | None
    client: Any
    scheduler: str | None
    progress: bool


def run_each(
    process: Operation,
    found: Sequence[tuple[Path, Path]],
    output: str | Path,
    suffix: str,
    running: Running,
    *,
    check: Callable[[Path], object] = lambda path: None,
) -> Summary:
    """Do the same with each of some recordings.

    Parameters
    ----------
    process : Process
        What is done.
    found : sequence
        The recordings, each with the folder that it was found through; see `find_inputs`.
    output : path-like
        The one result, if its name ends like one; or a folder for the results.
    suffix : str
        What the results' names in that folder end with.
    running : Running
        How.
    check : callable
        Refuses the name of a result before anything is done.

    Raises
    ------
    ValueError
        If the call makes no sense; nothing is done then.
    BatchError
        If any job failed; all others were done.
    """
    target = Path(output).expanduser().absolute()
    ending = split_suffix(f"x{suffix}")[1]
    is_result = bool(ending) and split_suffix(target.name)[1].lower() == ending
    if not (is_result or is_recording_name(target)):
        targets = outputs_for(found, target, suffix)
    elif len(found) == 1:
        targets = [target]
    else:
        raise ValueError(
            f"{target.name} is the name of one result, and there are {len(found)} recordings: give "
            "a folder for the results."
        )
    for path in {split_suffix(path.name)[1]: path for path in targets}.values():
        check(path)
    paths = [path for path, _ in found]
    return run(process, [((path,), t) for path, t in zip(paths, targets, strict=True)], running)


def run(
    process: Operation,
    work: Sequence[tuple[tuple[Path, ...], Path]],
    running: Running,
) -> Summary:
    """Do jobs, each with its inputs and its output.

    Raises
    ------
    ValueError
        If a result would take the place of an input.
    BatchError
        If any job failed; all others were done.
    """
    for inputs, output in work:
        if output in inputs:
            raise ValueError(f"{output}: both input and result. Give the result another name.")
    overwrite = running.get("overwrite", False)
    return run_all([Job(process, inputs, output, overwrite) for inputs, output in work], running)


def run_all(tasks: Sequence[Task], running: Running) -> Summary:
    """Run tasks, those that make results and those that do not.

    Raises
    ------
    BatchError
        If any failed; all others were done.
    """
    options: Any = {name: value for name, value in running.items() if name != "overwrite"}
    return run_jobs(tasks, **options).checked()
