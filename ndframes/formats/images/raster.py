"""RasterReader: crops of images that GDAL reads, through rasterio. No other module imports either."""

from __future__ import annotations

import errno
import os
import re
import weakref
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.io import DatasetReader

from ...errors import UnreadableImageError
from ...spec.nodata import ColourKey
from ...system.handles import FileHandle, close_on_error, is_out_of_descriptors
from ...system.process import ForkGate
from ...system.stamp import require_same_file, source_error
from ..reader import Reader, ReaderFacts
from .limits import check_block, check_expansion
from .truncation import describe_damage_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..._typing import Array
    from ...spec.nodata import Nodata
    from ...system.handles import HandlePool
    from ...system.stamp import SourceStamp

__all__ = ["RasterReader", "gdal_version"]
# No sidecar file may change pixels or be written, and libjpeg's "premature end of file" must be an error, not grey pixels.
_OPTIONS: dict[str, Any] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": False,
    "GDAL_ERROR_ON_LIBJPEG_WARNING": True,
    "GDAL_GEOREF_SOURCES": "NONE",
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",  # this optimisation reads a truncated file as zeros, without an error
    "GDAL_NUM_THREADS": "1",  # GDAL's threads read missing tiles of JPEG 2000 as zeros, and print errors to stderr
}
# By default GDAL caches decoded blocks up to 5 % of the machine's memory, in every process. A size set by the user stays.
_BLOCK_CACHE_BYTES = 64 * 2**20
if "GDAL_CACHEMAX" not in os.environ:
    _OPTIONS["GDAL_CACHEMAX"] = _BLOCK_CACHE_BYTES
# A format that is named, such as ENVI, may consist of several files, which GDAL finds by their names.
_NAMED_OPTIONS = {**_OPTIONS, "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE"}
_MOST_EXACT = 2**53  # of the integers that a float represents
_WITHOUT_OVERVIEWS = ("BMP", "GIF", "NITF", "PNG", "PNM", "WEBP")
_SEQUENTIAL = ("GIF", "JPEG", "PNG", "WEBP")
# GDAL may open a file of any other format again by its name, at any time: for its decoding threads, for overviews.
_OPENED_ONCE = ("BMP", "GIF", "GTiff", "PNG", "PNM", "WEBP")
# GDAL opens a JPEG once more for each of its three reduced sizes as soon as one of them is used.
_JPEG_DESCRIPTORS = 4
_DESCRIPTORS = "/proc/self/fd"
_HAS_DESCRIPTOR_NAMES = os.path.isdir(_DESCRIPTORS)
_BLACK, _WHITE = (0, 0, 0, 255), (255, 255, 255, 255)
# GDAL has locks of its own, such as that of its block cache; a child forked while one is held would wait for ever.
_GATE = ForkGate()
_READ_ERRORS = (RasterioError, RasterioIOError, ValueError, MemoryError, OverflowError, LookupError)


class _PixelDataset(DatasetReader):  # type: ignore[misc]
    """A dataset as a grid of pixels, without its place on Earth.

    rasterio warns about every file that has no georeference, and Python's filters for warnings are not safe to change
    while other threads run. So the transform is never read.
    """

    alias: FileHandle | None = None
    has_halvings = False

    @property
    def descriptor_count(self) -> int:
        """The number of file descriptors that are open."""
        return (_JPEG_DESCRIPTORS if self.has_halvings else 1) + (self.alias is not None)

    def read_transform(self) -> list[float]:
        return [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]

    def close(self) -> None:
        with _GATE:
            super().close()
        # After the dataset: GDAL may open the file by this descriptor as long as the dataset is open.
        if self.alias is not None:
            self.alias.close()


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the samples that GDAL reads become pixels."""

    stored_dtype: np.dtype[Any]
    dtype: np.dtype[Any]
    palette: Array | None


class RasterReader(Reader):
    """Crops of any file that a named GDAL driver opens.

    Palettes are read as colours (RGB, or RGBA if an entry is not opaque), samples of one bit as booleans, half floats as
    float16, and a JPEG of four inks as RGB. A handle of GDAL serves one thread at a time; they come from ``pool``.

    Args:
        path: the file, or any other name that GDAL opens.
        driver: GDAL's name of the format.
        pool: keeps the open handles.
        file_bytes: the length of the file, to judge the sizes in its header; ``None`` does not judge them.
        stamp: the file that ``path`` must be whenever it is opened; ``None`` accepts any.

    Raises:
        UnreadableImageError: the driver does not open the file, or its header describes more than its bytes can hold.
        SourceChangedError: the file of ``stamp`` was replaced or removed; when reading, too.
    """

    def __init__(
        self,
        path: str,
        driver: str,
        pool: HandlePool,
        *,
        file_bytes: int | None = None,
        stamp: SourceStamp | None = None,
    ) -> None:
        self._name = path
        self._driver = driver
        self._pool = pool
        self._stamp = stamp
        self._token = object()
        with self._borrow(0) as dataset:
            if not dataset.count:
                raise UnreadableImageError(
                    f"{path} ({driver}) is a container without pixels; name one of its subdatasets"
                )
            self._layout = _find_layout(dataset)
            palette = self._layout.palette
            bands = dataset.count if palette is None else palette.shape[1]
            tile_height, tile_width = dataset.block_shapes[0]
            facts = ReaderFacts(
                format=driver,
                shape=(dataset.height, dataset.width, bands),
                dtype=self._layout.dtype,
                tile_shape=(min(tile_height, dataset.height), min(tile_width, dataset.width)),
                # The nodata value of a palette image is an index, not a colour.
                nodata=_find_nodata(dataset) if palette is None else None,
                memory_bytes=1 << 16,
            )
            super().__init__(path, facts)
            check_block(
                path, tile_height * tile_width * dataset.count * self._layout.stored_dtype.itemsize, self.nbytes
            )
            self._overview_count = _count_overviews(dataset)
        if file_bytes is not None:
            check_expansion(path, self.nbytes, file_bytes, band_count=self.shape[2])
        # A function of the module: a bound method would keep this reader alive.
        weakref.finalize(self, _discard_handles, pool, self._token, self._overview_count + 1)

    def count_decoded(self, rows: range, cols: range) -> int:
        """As :meth:`Reader.count_decoded`. A format that decodes from the top decodes every row above the crop as well."""
        if self._driver in _SEQUENTIAL and rows and cols:
            rows, cols = range(max(rows[0], rows[-1]) + 1), range(self.shape[1])
        return super().count_decoded(rows, cols)

    def _find_overview_shapes(self) -> list[tuple[int, int]]:
        shapes = []
        # On demand, since the shape of a level is known only when a dataset of that level is open.
        for level in range(1, self._overview_count + 1):
            with self._borrow(level) as dataset:
                shapes.append((dataset.height, dataset.width))
        return shapes

    def read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        """As :meth:`Reader.read_window`."""
        window = ((rows.start, rows.stop), (cols.start, cols.stop))
        palette = self._layout.palette
        if palette is not None:
            indices = np.empty((1, len(rows), len(cols)), self._layout.stored_dtype)
            self._read_bands([1], window, indices, level)
            out[...] = palette[indices[0]][..., list(bands)]
            return
        band_numbers = [band + 1 for band in bands]
        planes = out.transpose(2, 0, 1)  # GDAL writes bands first, into any strides
        if out.dtype == self._layout.stored_dtype:
            self._read_bands(band_numbers, window, planes, level)
            return
        stored = np.empty(planes.shape, self._layout.stored_dtype)
        self._read_bands(band_numbers, window, stored, level)
        planes[...] = stored

    def _read_bands(self, band_numbers: list[int], window: Any, planes: Array, level: int) -> None:
        with self._borrow(level) as dataset:
            # If GDAL may open the file by its name again, it may read another file, which only the stamp reveals.
            is_pinned = self._driver in _OPENED_ONCE or dataset.alias is not None
            with require_same_file(self._name, None if is_pinned else self._stamp, may_be_gone=True):
                dataset.read(band_numbers, window=window, out=planes)

    def _borrow(self, level: int) -> Any:
        return _BorrowedDataset(self._pool, (self._token, level), self._name, self._driver, level, self._stamp)


class _BorrowedDataset:
    """A context: a dataset of the pool under our GDAL options; its errors become :class:`UnreadableImageError`."""

    def __init__(
        self,
        pool: HandlePool,
        key: tuple[object, int],
        path: str,
        driver: str,
        level: int,
        stamp: SourceStamp | None,
    ) -> None:
        self._path, self._driver, self._level, self._stamp = path, driver, level, stamp
        self._borrowed = pool.borrow(key, self._open)

    def __enter__(self) -> Any:
        # The gate is entered first and left last: GDAL takes its locks when it opens and closes datasets, too.
        with ExitStack() as stack:
            stack.enter_context(_GATE)
            stack.enter_context(rasterio.Env(**(_OPTIONS if self._stamp is not None else _NAMED_OPTIONS)))
            dataset = stack.enter_context(self._borrowed)
            self._gdal_name = dataset.name
            self._stack = stack.pop_all()
        return dataset

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._stack.__exit__(kind, error, trace)
        if isinstance(error, _READ_ERRORS):
            cause = error.__cause__ or error
            error.__cause__ = error.__context__ = None  # rasterio's exceptions do not unpickle; keep their text alone
            text = _name_file(str(cause), self._gdal_name, self._path)
            raise UnreadableImageError(
                f"{self._path} ({self._driver}) does not decode, {describe_damage_of(self._path, self._driver)}: {text}"
            ) from error

    def _open(self) -> _PixelDataset:
        options = {"OVERVIEW_LEVEL": self._level - 1} if self._level else {}
        alias = _open_alias(self._path, self._stamp)
        name = self._path if alias is None else f"{_DESCRIPTORS}/{alias.descriptor}"
        with close_on_error(alias), require_same_file(self._path, self._stamp if alias is None else None):
            try:
                # Not shared: GDAL would give one handle to several readers, and it serves one thread at a time.
                dataset = _PixelDataset(name, driver=[self._driver], sharing=False, **options)
            except _READ_ERRORS as error:
                # As the system's error, so that the pool closes idle handles and tries again.
                if is_out_of_descriptors(error):
                    raise source_error(self._path, OSError(errno.EMFILE, os.strerror(errno.EMFILE))) from error
                text = _name_file(str(error), name, self._path)
                raise UnreadableImageError(
                    f"{self._path} begins like {self._driver} but does not open, {describe_damage_of(self._path, self._driver)}: {text}"
                ) from error
        # These drivers have the file open by now, and never open it again.
        if alias is not None and self._driver in _OPENED_ONCE:
            alias.close()
        else:
            dataset.alias = alias
        dataset.has_halvings = self._driver == "JPEG" and self._level > 0
        return dataset


def _name_file(text: str, gdal_name: str, path: str) -> str:
    """GDAL's message, which may name the alias under /proc or only its number, with the file's own name."""
    if gdal_name == path:
        return text
    text = text.replace(gdal_name, path)
    number, name = os.path.basename(gdal_name), os.path.basename(path)
    return re.sub(rf"(?<![\w/.]){number}(?=, band \d)|^{number}(?=: )", lambda _: name, text)


def gdal_version() -> str:
    """The version of the GDAL inside rasterio's wheel."""
    return str(rasterio.__gdal_version__)


def _open_alias(path: str, stamp: SourceStamp | None) -> FileHandle | None:
    """Open a file so that GDAL can open it again as ``/proc/self/fd/N``; ``None`` if GDAL has to use its name.

    There are two reasons. A file can be replaced, and put back, between our check of its stamp and GDAL's opening of its
    name, while a descriptor stays with its file. And GDAL takes names in UTF-8 only, while Linux allows any bytes.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        return FileHandle(path, stamp)
    return None if stamp is None or not _HAS_DESCRIPTOR_NAMES else FileHandle(path, stamp)


def _discard_handles(pool: HandlePool, token: object, level_count: int) -> None:
    for level in range(level_count):
        pool.discard((token, level))


def _count_overviews(dataset: Any) -> int:
    """Count those overviews of GDAL that show the image itself.

    For a JPEG, GDAL offers up to three reduced sizes made while decoding, and the thumbnail of the camera as one more. That
    thumbnail may show the picture before it was edited. For a format without overviews, GDAL may find a sidecar file.
    """
    if dataset.driver in _WITHOUT_OVERVIEWS:
        return 0
    count: int = len(dataset.overviews(1))
    if dataset.driver != "JPEG":
        return count
    # GDAL has opened the reduced sizes to count them.
    dataset.has_halvings = True
    longest: int = max(dataset.shape)
    # GDAL's own rule for reduced sizes. One more overview is the thumbnail.
    return min(count, sum(longest >= 256 << halving for halving in range(3)))


def _find_nodata(dataset: Any) -> Nodata | None:
    """What marks missing pixels: a value, a value for each band, or the transparent colour of a PNG."""
    # rasterio gives floats. Those that stand for several 64-bit integers are left out, so that no pixel is masked wrongly.
    has_longs = any(name in ("int64", "uint64") for name in dataset.dtypes)
    values = tuple(
        None if has_longs and value is not None and abs(value) > _MOST_EXACT else value for value in dataset.nodatavals
    )
    # GDAL's name for values that have to come together.
    colour = tuple(value for value in values if value is not None)
    if "NODATA_VALUES" in dataset.tags() and len(colour) == len(values) > 1:
        return ColourKey(colour)
    if len(set(values)) > 1 and not all(value is None or value != value for value in values):  # noqa: PLR0124 - nan
        return values
    return next((value for value in values if value is not None), None)


def _find_layout(dataset: Any) -> _Layout:
    # The dtypes of bands may differ; GDAL converts to one that holds them all.
    stored = np.result_type(*(np.dtype(_numpy_name(name)) for name in dataset.dtypes))
    bits = dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
    palette = _find_palette(dataset, stored, is_bilevel=bits == "1")
    if palette is not None:
        return _Layout(stored, palette.dtype, palette)
    if bits == "1" and stored == np.uint8:
        return _Layout(stored, np.dtype(bool), None)
    # GDAL reads half floats as float32; the cast back is exact.
    if bits == "16" and stored == np.float32:
        return _Layout(stored, np.dtype(np.float16), None)
    return _Layout(stored, stored, None)


def _numpy_name(name: str) -> str:
    """GDAL's complex integers have no numpy dtype; rasterio reads them as complex64."""
    return "complex64" if name == "complex_int16" else "complex128" if name == "complex_int32" else name


def _find_palette(dataset: Any, stored: np.dtype[Any], *, is_bilevel: bool) -> Array | None:
    """The colour of each index of a one-band image, ``(entries, bands)``; ``None`` if pixels are not indices."""
    if dataset.count != 1 or stored.name not in ("uint8", "uint16"):
        return None
    try:
        colours = dataset.colormap(1)
    # rasterio raises this for a band without a palette.
    except ValueError:
        return None
    entries = np.zeros((1 << 8 * stored.itemsize, 4), np.uint8)
    entries[:, 3] = 255
    for index, colour in colours.items():
        entries[index] = colour
    if (is_bilevel and dataset.driver == "GTiff") or dataset.driver == "BMP":
        # GDAL invents a palette for each bilevel TIFF; and BMP stores gray as a palette.
        if _is_gray_ramp(entries):
            return None
        if [*map(tuple, colours.values())] in ([_BLACK, _WHITE], [_WHITE, _BLACK]):
            is_stored = dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"
            return None if is_stored else entries[:, :1] > 0
    return entries if any(colour[3] != 255 for colour in colours.values()) else np.ascontiguousarray(entries[:, :3])


def _is_gray_ramp(entries: Array) -> bool:
    return all(np.array_equal(entries[:, band], np.arange(len(entries))) for band in range(3))
