"""A folder in an object store, as far as a recording needs it, over zarr's own stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class ObjectPath:
    """A place in an object store; objects are read and written whole.

    Parameters
    ----------
    store : zarr.abc.store.Store
        The store.
    path : str
        The place within it.
    """

    def __init__(self, store: Any, path: str = "") -> None:
        self.store = store
        self.path = path

    @classmethod
    def of_url(cls, url: str, storage_options: Mapping[str, Any]) -> ObjectPath:
        """Return the place of a URL, such as ``s3://bucket/key.ome.zarr``.

        Raises
        ------
        ImportError
            If what speaks the URL's protocol is not installed.
        """
        from zarr.storage import FsspecStore

        return cls(FsspecStore.from_url(url, storage_options=dict(storage_options)))

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(self.store, f"{self.path}/{name}".strip("/"))

    def joinpath(self, *names: str) -> ObjectPath:
        """Return the place further down."""
        return self / "/".join(names)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing to do: object stores have no folders."""

    def exists(self) -> bool:
        """Return whether there is an object."""
        return bool(_sync(self.store.exists(self.path)))

    def names(self) -> list[str]:
        """Return the names of all objects from here on, relative to here."""
        found: list[str] = _sync(_collected(self.store.list_prefix(f"{self.path}/".lstrip("/"))))
        start = len(self.path) + 1 if self.path else 0
        return [name[start:] for name in found]

    def read_bytes(self) -> bytes:
        """Return an object's content.

        Raises
        ------
        FileNotFoundError
            If there is none.
        """
        from zarr.buffer import default_buffer_prototype

        found = _sync(self.store.get(self.path, default_buffer_prototype()))
        if found is None:
            raise FileNotFoundError(f"{self.store}/{self.path}: no such object.")
        content: bytes = found.to_bytes()
        return content

    def write_bytes(self, content: Any) -> None:
        """Put an object; any thread may."""
        from zarr.buffer import default_buffer_prototype

        buffer = default_buffer_prototype().buffer.from_bytes(content)
        _sync(self.store.set(self.path, buffer))

    def remove(self) -> None:
        """Remove all objects from here on."""
        _sync(self.store.delete_dir(self.path))


async def _collected(names: Any) -> list[str]:
    return [name async for name in names]


def _sync(waiting: Any) -> Any:
    from zarr.core.sync import sync

    return sync(waiting)
