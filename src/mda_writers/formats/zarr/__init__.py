"""OME-Zarr 0.4 and 0.5: chunks, shards and resolution levels, on disk or in an object store."""
