"""What the header of an HDF5 data set may claim: no more than its file can hold, or than is read at a time."""

import math
from pathlib import Path

import h5py

from data_gen.chunks import check_chunks, has_other_filters

SUSPICIOUS, DENSEST = 2**30, 800  # bytes from which on what packs better than so many times holds no frames
DEEPEST = 32  # levels of groups in a file of weights
LARGEST_CHUNK = 2**29  # bytes that are unpacked together, however few of them are asked for


def check_claims(dataset: h5py.Dataset) -> None:
    """Refuses a data set whose values would fill the memory, or take forever, without being there.

    Raises:
        ValueError: it makes such a claim; one sentence.
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
    check_chunks(dataset, thorough=False)


def check_weights_file(path: Path) -> None:
    """Refuses a file of weights that HDF5 would crash over, or that points out of itself.

    Raises:
        OSError, RuntimeError, zlib.error: it cannot be read.
        ValueError: HDF5 would, or it does; one sentence.
    """
    with h5py.File(path) as file:
        links: list[tuple[str, object]] = []
        deep = file.visititems_links(
            lambda name, link: name if name.count("/") > DEEPEST else links.append((name, link))
        )
        if deep:  # HDF5 takes minutes over a thousand levels
            raise ValueError(f"its groups are nested more than {DEEPEST} deep")
        for name, link in links:
            if not isinstance(link, h5py.HardLink):
                raise ValueError(f"{name} is a link to elsewhere")
            dataset = file[name]
            if not isinstance(dataset, h5py.Dataset):
                continue
            if dataset.is_virtual or dataset.external:
                raise ValueError(f"{name} is kept in another file")
            check_claims(dataset)
            if has_other_filters(dataset):
                raise ValueError(f"{name} is packed by other filters than gzip")
            check_chunks(dataset)


def _held(dataset):
    """Bytes in the file, or in those that it is put together from."""
    if not dataset.is_virtual:
        return dataset.id.get_storage_size()
    own = Path(dataset.file.filename)
    files = {own if source.file_name == "." else own.parent / source.file_name for source in dataset.virtual_sources()}
    return sum(path.stat().st_size for path in files if path.is_file())
