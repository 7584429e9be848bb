"""What the header of an HDF5 data set may claim: no more than its file can hold, or than is read at a time."""

import math
from pathlib import Path

import h5py

SUSPICIOUS, DENSEST = 2**30, 800  # bytes from which on what packs better than so many times holds no frames
LARGEST_CHUNK = 2**29  # bytes that are unpacked together, however few of them are asked for


def check_claims(dataset: h5py.Dataset) -> None:
    """Refuses a data set whose values would fill the memory, or take forever, without being there.

    Raises:
        ValueError: so it is; one sentence.
    """
    shape, unit = dataset.shape or (), dataset.dtype.itemsize
    claimed, chunk = (math.prod(sizes) * unit for sizes in (shape, dataset.chunks or ()))
    if claimed > SUSPICIOUS and claimed > DENSEST * _held(dataset):
        raise ValueError(
            f"{dataset.name} claims {dataset.dtype} {shape}, {claimed / 1e9:.1f} GB, and takes "
            f"{_held(dataset) / 1e6:.1f} MB: expected frames, which never pack so well"
        )
    if chunk > LARGEST_CHUNK:
        raise ValueError(
            f"{dataset.name} is packed in chunks {dataset.chunks} of {chunk / 1e6:.0f} MB: expected "
            f"{LARGEST_CHUNK / 1e6:.0f} at most"
        )


def _held(dataset):
    """Bytes in the file, or in those that it is put together from."""
    if not dataset.is_virtual:
        return dataset.id.get_storage_size()
    own = Path(dataset.file.filename)
    files = {own if source.file_name == "." else own.parent / source.file_name for source in dataset.virtual_sources()}
    return sum(path.stat().st_size for path in files if path.is_file())
