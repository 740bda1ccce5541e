"""Convert a folder of recordings on a Dask cluster: here on two processes of this machine.

On a cluster that runs already, leave out LocalCluster and give its address:
``convert(…, scheduler="tcp://…:8786")``. Its workers must see the same files. Without either, the
threads of this machine do the work. Finished results are skipped on re-run.
"""

from pathlib import Path

import numpy as np
from distributed import Client, LocalCluster

from mda_writers import BigTiffWriter, convert, open_dataset
from mda_writers.batch import project


def record_something(name: str) -> None:
    path = Path("recordings") / f"{name}.ome.tiff"
    if path.exists():
        return
    writer = BigTiffWriter(path)
    writer.begin(256, 256, dtype="uint16", sizes={"t": 5, "z": 3}, pixel_size_um=0.5)
    for number in range(15):
        writer.add_frame(np.full((256, 256), number, "uint16"))
    writer.finish()


def main() -> None:
    for name in ("mouse-1", "mouse-2", "mouse-3"):
        record_something(name)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        convert("recordings", "zarr", suffix=".ome.zarr", levels=2, client=client)
        project("recordings", "projected", axes="z", client=client)
    for name in ("mouse-1", "mouse-2", "mouse-3"):
        with open_dataset(f"zarr/{name}.ome.zarr") as dataset:
            print(name, dataset.shapes, "complete" if dataset.complete else "not complete")


# worker processes import this file: what is outside would run in each of them
if __name__ == "__main__":
    main()
