"""What strangers' arrays claim to be, looked at before NumPy or HDF5 believes it."""

import math
import zlib

import h5py
import numpy as np

SUSPICIOUS, DENSEST = 2**30, 800  # bytes from which on what packs better than so many times holds no frames
LARGEST_CHUNK = 2**29  # bytes that are unpacked together, however few of them are asked for
DENSEST_GZIP = 1040  # times that gzip packs, at most
DEEPEST = 32  # levels of groups
_UNPACKED = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE}  # filters whose chunks are looked at


def members_of(file: h5py.File) -> dict[str, h5py.HardLink | h5py.SoftLink | h5py.ExternalLink]:
    """Returns the links to all groups and data sets of a file by their names, none of them followed.

    Raises:
        ValueError: its groups are nested deeper than any of ours, over which HDF5 takes minutes; one sentence.
    """
    found: dict[str, h5py.HardLink | h5py.SoftLink | h5py.ExternalLink] = {}
    if file.visititems_links(lambda name, link: True if name.count("/") > DEEPEST else found.update({name: link})):
        raise ValueError(f"its groups are nested more than {DEEPEST} deep")
    return found


def check_claims(
    name: str, dtype: np.dtype, shape: tuple[int, ...], packed: int, chunks: tuple[int, ...] | None = None
) -> None:
    """Refuses an array whose values would fill the memory, or take forever, without being there.

    Arguments:
        name: of the array, for its user.
        dtype, shape: what its header says.
        packed: bytes that it takes in its file.
        chunks: shape of what is unpacked together; None where nothing is packed.

    Raises:
        ValueError: it makes such a claim; one sentence.
    """
    claimed, chunk = (math.prod(sizes) * dtype.itemsize for sizes in (shape, chunks or ()))  # Python's: no overflow
    if claimed > SUSPICIOUS and claimed > DENSEST * packed:
        raise ValueError(
            f"{name} claims {dtype} {shape}, {claimed / 1e9:.1f} GB, and takes {packed / 1e6:.1f} MB: expected frames, "
            "which never pack so well"
        )
    if chunk > LARGEST_CHUNK:
        raise ValueError(
            f"{name} is packed in chunks {chunks} of {chunk / 1e6:.0f} MB: expected {LARGEST_CHUNK / 1e6:.0f} at most"
        )


def white_of(features: h5py.Dataset) -> int:
    """Returns the value that is white, as the attribute of that name says; 1 where there is none.

    Raises:
        ValueError: it is not 1 to 255; one sentence.
    """
    white = features.attrs.get("white", 1)
    if not (isinstance(white, int | float | np.number) and white in range(1, 256)):
        raise ValueError(f"{features.name} has the attribute white={white!s:.60}: expected 1 to 255")
    return int(white)


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
        if taken * DENSEST_GZIP < size:
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
