"""BigTIFF OME-TIFF, plain and compressed, and series of TIFF stacks."""
