"""Chunks of HDF5 data sets of strangers, before HDF5 itself unpacks them."""

import math
import zlib

import h5py

DENSEST = 1040  # times that gzip packs, at most
_UNPACKED = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE}  # filters whose chunks are looked at


def has_other_filters(dataset: h5py.Dataset) -> bool:
    """Tells whether there are others than gzip, with or without shuffling: what `check_chunks` leaves alone."""
    return not {*_filters(dataset)} <= _UNPACKED


def check_chunks(dataset: h5py.Dataset, thorough: bool = True) -> None:
    """Looks at every chunk: of one that unpacks to less than it should HDF5 reads on behind its end, or crashes.

    Arguments:
        dataset: of an open file.
        thorough: whether each is unpacked, or only refused where it is too small to be a whole one.

    Raises:
        ValueError: there is such a one; one sentence.
        zlib.error: one is damaged.
    """
    if dataset.chunks is None or has_other_filters(dataset):
        return
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    deflated = h5py.h5z.FILTER_DEFLATE in _filters(dataset)
    stored: list[tuple[tuple[int, ...], int]] = []
    dataset.id.chunk_iter(lambda chunk: stored.append((chunk.chunk_offset, chunk.size)))
    for place, taken in stored:
        if taken * DENSEST < size:
            raise ValueError(f"{dataset.name} has a chunk of {taken} bytes, too few for {size} of its values")
        if not thorough:
            continue
        mask, packed = dataset.id.read_direct_chunk(place)
        plain = zlib.decompressobj().decompress(packed, size + 1) if deflated and not mask else packed
        if len(plain) != size:
            raise ValueError(f"{dataset.name} has a chunk that is not {size} bytes")


def _filters(dataset):
    filters = dataset.id.get_create_plist()
    return [filters.get_filter(number)[0] for number in range(filters.get_nfilters())]
