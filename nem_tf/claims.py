"""What the header of an HDF5 data set may claim: no more than its file can hold, or than is read at a time."""

from pathlib import Path

import h5py

from data_gen import claims


def check_claims(dataset: h5py.Dataset) -> None:
    """Refuses a data set whose values would fill the memory, or take forever, without being there.

    Raises:
        ValueError: it makes such a claim; one sentence.
    """
    claims.check_claims(dataset.name, dataset.dtype, dataset.shape or (), _held(dataset), dataset.chunks)
    claims.check_chunks(dataset, thorough=False)


def check_weights_file(path: Path) -> None:
    """Refuses a file of weights that HDF5 would crash over, or that points out of itself.

    Raises:
        OSError, RuntimeError, zlib.error: it cannot be read.
        ValueError: HDF5 would, or it does; one sentence.
    """
    with h5py.File(path) as file:
        for name, link in claims.members_of(file).items():
            if not isinstance(link, h5py.HardLink):
                raise ValueError(f"{name} is a link to elsewhere")
            dataset = file[name]
            if not isinstance(dataset, h5py.Dataset):
                continue
            if dataset.is_virtual or dataset.external:
                raise ValueError(f"{name} is kept in another file")
            check_claims(dataset)
            if claims.has_other_filters(dataset):
                raise ValueError(f"{name} is packed by other filters than gzip")
            claims.check_chunks(dataset)


def _held(dataset):
    """Bytes in the file, or in those that it is put together from."""
    if not dataset.is_virtual:
        return dataset.id.get_storage_size()
    own = Path(dataset.file.filename)
    files = {own if source.file_name == "." else own.parent / source.file_name for source in dataset.virtual_sources()}
    return sum(path.stat().st_size for path in files if path.is_file())
