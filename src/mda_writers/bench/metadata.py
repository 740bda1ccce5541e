"""The frame metadata every contestant gets, as pymmcore-plus's engine would hand it out."""

from __future__ import annotations

from typing import Any


def frame_metadata(index: int) -> dict[str, Any]:
    """Return a `FrameMetaV1` of a hardware-sequenced frame, without its event.

    The event is left out on purpose: it would cost peers that dump it whole more than it costs
    us, who dump it without its sequence.
    """
    return {
        "format": "frame-dict",
        "version": "1.0",
        "runner_time_ms": 2.0 * index,
        "camera_device": "Camera",
        "property_values": (),
        "exposure_ms": 2.0,
        "pixel_size_um": 0.65,
        "position": {"x": 100.0, "y": -20.0, "z": 3.5},
        "hardware_triggered": True,
        "images_remaining_in_buffer": 0,
        "camera_metadata": {
            "Binning": "1",
            "Camera": "Camera",
            "ElapsedTime-ms": f"{2.0 * index:.2f}",
            "ImageNumber": str(index),
            "PixelType": "GRAY16",
        },
    }


def ome_metadata(index: int) -> dict[str, float]:
    """Return the part of it that pymmcore-plus's own sink passes on to ome-writers."""
    return {
        "delta_t": 0.002 * index,
        "exposure_time": 0.002,
        "position_x": 100.0,
        "position_y": -20.0,
        "position_z": 3.5,
    }
