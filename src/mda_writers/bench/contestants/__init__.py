"""Everyone who can take part, by name."""

from __future__ import annotations

from mda_writers.bench.contestants import acquisition as way
from mda_writers.bench.contestants.acquire import Acquire
from mda_writers.bench.contestants.bare import BareLoop
from mda_writers.bench.contestants.base import Contestant, Job
from mda_writers.bench.contestants.ndtiff import NDTiff
from mda_writers.bench.contestants.omewriters import OMEWriters
from mda_writers.bench.contestants.ours import BigTiff, OMEZarr
from mda_writers.bench.contestants.pymmcore import OMETiff, TensorStore
from mda_writers.bench.contestants.tensorstore import TensorStore as PlainTensorStore
from mda_writers.bench.contestants.tiff import Tifffile
from mda_writers.bench.contestants.video import BareOpenCV, BarePyAV, Video
from mda_writers.bench.contestants.zarr_python import ZarrPython

__all__ = ["CONTESTANTS", "Contestant", "Job"]

OURS: list[Contestant] = [
    BigTiff("bigtiff", "mda-writers BigTiffWriter"),
    OMEZarr("omezarr", "mda-writers OMEZarrWriter"),
    OMEZarr("omezarr-lz4", "mda-writers OMEZarrWriter, lz4", compression="blosc-lz4"),
    OMEZarr("omezarr-zstd", "mda-writers OMEZarrWriter, zstd", compression="blosc-zstd"),
    OMEZarr("omezarr-3-levels", "mda-writers OMEZarrWriter, 3 levels", levels=3),
]

PEERS: list[Contestant] = [
    OMETiff(),
    TensorStore(),
    OMEWriters("ome-writers-tifffile", "tifffile"),
    OMEWriters("ome-writers-zarr", "zarr-python"),
    OMEWriters("ome-writers-tensorstore", "tensorstore"),
    OMEWriters("ome-writers-acquire", "acquire-zarr"),
    Acquire("acquire", "acquire-zarr", sharded=False),
    Acquire("acquire-sharded", "acquire-zarr, sharded", sharded=True),
    NDTiff(),
    Tifffile(),
    PlainTensorStore(),
    ZarrPython(),
]

COMPRESSED_PEERS: list[Contestant] = [
    OMEWriters(f"ome-writers-{short}-{codec}", backend, f"blosc-{codec}")
    for short, backend in (
        ("zarr", "zarr-python"),
        ("tensorstore", "tensorstore"),
        ("acquire", "acquire-zarr"),
    )
    for codec in ("lz4", "zstd")
]

TIFF, ZARR = "peer.ome.tiff", "peer.ome.zarr"
OUR_TIFF, OUR_ZARR = BigTiff.file, OMEZarr.file

WHOLE_WAY: list[Contestant] = [
    way.Acquisition("camera", "the camera alone", way.only_acquire, keeps_metadata=False),
    *(
        way.Acquisition(
            f"{how}-{short}", f"{said}, {writer}", run(writer, file), read=read, writer=writer
        )
        for short, writer, file, read in (
            ("bigtiff", "BigTiffWriter", OUR_TIFF, way.read_tiff_named(OUR_TIFF)),
            ("omezarr", "OMEZarrWriter", OUR_ZARR, way.read_omezarr),
        )
        for how, said, run in (
            ("record", "record()", way.record_with),
            ("output", "output=", way.output_to),
        )
    ),
    way.Acquisition(
        "output-pymmcore-tiff",
        "output=, pymmcore-plus OMETiffWriter",
        way.output_to_upstream,
        read=way.read_tiff_named(TIFF),
        keeps_metadata=False,
    ),
    way.Acquisition(
        "output-path-tiff",
        "output='….ome.tiff' (ome-writers)",
        way.output_to_path(TIFF),
        read=way.read_tiff_named(TIFF),
    ),
    way.Acquisition(
        "output-path-zarr",
        "output='….ome.zarr' (ome-writers)",
        way.output_to_path(ZARR),
        read=way.read_zarr_named(ZARR),
    ),
]

VIDEOS: list[Contestant] = [
    *(one(fourcc) for fourcc in ("H264", "MJPG", "FFV1") for one in (Video, BarePyAV)),
    BareOpenCV("MJPG"),
    BareOpenCV("FFV1"),
]

CONTESTANTS: dict[str, Contestant] = {
    one.name: one for one in [BareLoop(), *OURS, *PEERS, *COMPRESSED_PEERS, *WHOLE_WAY, *VIDEOS]
}
