"""A recording in a few words, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mda_writers.storage.space import human_bytes

if TYPE_CHECKING:
    from mda_writers.dataset.dataset import Dataset

LISTED = 10


def summarized(dataset: Dataset) -> dict[str, str]:
    """Return what there is to say, by its name; what is unknown is left out."""
    frames = len(dataset.image_coordinates)
    about = {"path": str(dataset.path), "frames": str(frames)}
    if frames:
        about["sizes"] = ", ".join(f"{axis} {n}" for axis, n in dataset.sizes.items())
        about["pixels"] = f"{dataset.dtype}, {human_bytes(dataset.nbytes)}"
    about["channels"] = _listed(dataset.channels)
    about["positions"] = _listed(dataset.positions)
    about["pixel size"] = f"{dataset.pixel_size_um} µm" if dataset.pixel_size_um else ""
    about["state"] = _state(dataset)
    return {name: text for name, text in about.items() if text}


def _state(dataset: Dataset) -> str:
    if dataset.complete:
        return "complete"
    if dataset.is_live():
        return "being recorded"
    missing = len(dataset.missing)
    error = (dataset.report or {}).get("error", "")
    if dataset.report is None:
        return f"interrupted, {missing} frames missing: `mda-writers recover` completes its files"
    return f"ended with {missing} frames missing" + f" ({error})" * bool(error)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:LISTED]) + f" and {len(names) - LISTED} more" * (len(names) > LISTED)
