"""What the summary metadata says about the microscope, as far as a recording needs it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


SELECTED_CAMERA = ("Core", "Camera")
"""The device and the property that select the camera, in presets and in events."""


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera as the summary describes it; None where the summary is silent."""

    label: str
    frame_shape: tuple[int, ...] | None = None
    dtype: str | None = None


@dataclass(frozen=True, slots=True)
class MicroscopeInfo:
    """The microscope: its cameras, what a pixel measures, and the objective.

    Source of the field names: ``pymmcore_plus.metadata.schema.SummaryMetaV1``.

    Attributes
    ----------
    cameras : tuple of Camera
        Those behind the selected camera device: several behind a Multi Camera.
    selected : str
        The camera device that was selected at the begin.
    presets : mapping of (str, str) to str
        Group and preset → the camera device that it selects, for presets that do.
    devices : mapping of str to tuple of Camera
        Every camera device → the cameras behind it.
    pixel_size_um, bit_depth, objective, magnification, started
        As the summary has them.
    """

    cameras: tuple[Camera, ...] = (Camera(""),)
    selected: str = ""
    presets: Mapping[tuple[str, str], str] = field(default_factory=dict)
    devices: Mapping[str, tuple[Camera, ...]] = field(default_factory=dict)
    pixel_size_um: float | None = None
    bit_depth: int | None = None
    objective: str = ""
    magnification: float | None = None
    started: str = ""

    @classmethod
    def from_summary(cls, summary: Mapping[str, Any]) -> MicroscopeInfo:
        """Read a ``SummaryMetaV1``; an empty mapping gives one of which nothing is known."""
        infos = list(summary.get("image_infos") or ())
        first: Mapping[str, Any] = infos[0] if infos else {}
        devices = list(summary.get("devices") or ())
        return cls(
            cameras=_cameras(infos, first, devices),
            selected=str(first.get("camera_label", "")),
            presets=_camera_presets(summary.get("config_groups") or ()),
            devices={str(i.get("camera_label")): _cameras(infos, i, devices) for i in infos},
            pixel_size_um=first.get("pixel_size_um") or None,
            bit_depth=_bit_depth(str(first.get("pixel_format", ""))),
            objective=_objective(devices),
            magnification=first.get("magnification_factor"),
            started=_iso_time(summary.get("datetime")),
        )

    @property
    def cameras_differ(self) -> bool:
        """Whether the cameras of one run deliver frames of different shapes or types."""
        return len({(c.frame_shape, c.dtype) for c in self.cameras}) > 1


def _cameras(
    infos: list[Mapping[str, Any]], info: Mapping[str, Any], devices: list[Mapping[str, Any]]
) -> tuple[Camera, ...]:
    """Return the cameras behind the device that `info` describes."""
    device = _camera(info)
    count = int(info.get("num_camera_adapter_channels") or 1)
    if count == 1:
        return (device,)
    by_label = {other.get("camera_label"): _camera(other) for other in infos if other is not info}
    labels = _physical_cameras(device.label, devices, count)
    # a camera that the summary does not describe is taken to be like the device
    return tuple(
        by_label.get(label) or Camera(label, device.frame_shape, device.dtype) for label in labels
    )


def _camera_presets(groups: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    return {
        (str(group.get("name")), str(preset.get("name"))): str(setting.get("val"))
        for group in groups
        for preset in group.get("presets", ())
        for setting in preset.get("settings", ())
        if (setting.get("dev"), setting.get("prop")) == SELECTED_CAMERA
    }


def _camera(info: Mapping[str, Any]) -> Camera:
    shape = info.get("plane_shape") or ()
    dtype = info.get("dtype")
    return Camera(
        label=str(info.get("camera_label", "")),
        frame_shape=tuple(int(n) for n in shape) if shape and all(shape) else None,
        dtype=None if dtype in (None, "unknown", "uint0") else str(dtype),
    )


def _physical_cameras(
    selected: str, devices: Iterable[Mapping[str, Any]], count: int
) -> tuple[str, ...]:
    """Return the labels behind a Multi Camera device (Utilities adapter's own property names)."""
    properties = {
        p.get("name"): p.get("value")
        for device in devices
        if device.get("label") == selected
        for p in device.get("properties", ())
    }
    labels = [str(properties.get(f"Physical Camera {n + 1}") or "") for n in range(count)]
    return tuple(
        label if label and label.lower() != "undefined" else f"Camera-{n + 1}"
        for n, label in enumerate(labels)
    )


def _bit_depth(pixel_format: str) -> int | None:
    """Return the bits of a GenICam pixel format such as ``Mono12``."""
    match = re.search(r"(\d+)", pixel_format)
    return int(match.group(1)) if match else None


def _objective(devices: Iterable[Mapping[str, Any]]) -> str:
    """Return the label of the state device that is called an objective, if there is one."""
    for device in devices:
        if device.get("type") in ("State", "StateDevice") and "objective" in (
            f"{device.get('label', '')} {device.get('name', '')}".lower()
        ):
            for prop in device.get("properties", ()):
                if prop.get("name") == "Label":
                    return str(prop.get("value") or "")
    return ""


def _iso_time(text: Any) -> str:
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        time = datetime.now(UTC)
    return (time if time.tzinfo else time.astimezone()).isoformat()
