"""The formats of libraries' values, each in a file of its own: arrays, frames, sparse matrices, tensors, boosters.

A format is used only for a value that it gives back exactly; all others are pickled. No library is imported that the value
has not already imported.
"""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

SMALL = 4096  # bytes of an array that may stand in the JSON


class Format(NamedTuple):
    """How values of one kind are kept in one file."""

    suffix: str
    fits: Callable[[Any], bool]  # whether `write` keeps it exactly; imports nothing
    write: Callable[[Any, Path], dict[str, Any]]  # returns what `read` needs besides the file: plain JSON
    read: Callable[[Path, dict[str, Any]], Any]


def format_of(value: Any) -> str | None:
    """The name in FORMATS of the one that keeps this value, None where none does."""
    package = type(value).__module__.partition(".")[0]
    candidates = PACKAGES.get(package, ())
    return next((name for name in candidates if FORMATS[name].fits(value)), None)


def inline(value: Any) -> dict[str, Any] | None:
    """A numpy scalar or dtype as a JSON object; None for anything else."""
    if type(value).__module__.partition(".")[0] != "numpy":
        return None
    import numpy as np

    if type(value) is np.str_:
        return {"$str_": str(value)}
    if type(value) is np.bytes_:
        return {"$bytes_": value.hex()}
    if isinstance(value, np.generic) and value.dtype.kind in "biufcmM" and type(value) is value.dtype.type:
        return {"$numpy": [value.dtype.str, value.tobytes().hex()], "text": str(value)}
    if isinstance(value, np.dtype) and _is_exact(value):
        return {"$dtype": _descr_to_json(np.lib.format.dtype_to_descr(value))}
    return None


def read_inline(node: dict[str, Any]) -> Any:
    """What `inline` or `inline_array` was given."""
    import numpy as np

    if "$npy" in node:
        return _take_array(io.BytesIO(base64.b64decode(node["$npy"])), node)
    if "$dtype" in node:
        return _dtype(node["$dtype"])
    if "$str_" in node:
        return np.str_(node["$str_"])
    if "$bytes_" in node:
        return np.bytes_(bytes.fromhex(node["$bytes_"]))
    dtype, content = node["$numpy"]
    return np.frombuffer(bytes.fromhex(content), dtype)[0]


# Arrays. `.npy` keeps the dtype, the shape and the order of the axes; what it loses is written beside it, or refused.


def _is_exact(dtype: Any) -> bool:
    """Whether the header of a `.npy` file tells this dtype whole, and no objects are in it."""
    import numpy as np

    if dtype.hasobject or dtype.metadata is not None or dtype.kind not in "biufcmMSUV":
        return False
    again = np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(dtype))
    return again == dtype and again.type is dtype.type and again.isalignedstruct == dtype.isalignedstruct


def _descr_to_json(descr: Any) -> Any:
    return (
        {"tuple": [_descr_to_json(part) for part in descr]}
        if isinstance(descr, tuple)
        else ([_descr_to_json(part) for part in descr] if isinstance(descr, list) else descr)
    )


def _dtype(node: Any) -> Any:
    import numpy as np

    def plain(part: Any) -> Any:
        if isinstance(part, dict):
            return tuple(plain(inner) for inner in part["tuple"])
        return [plain(inner) for inner in part] if isinstance(part, list) else part

    return np.lib.format.descr_to_dtype(plain(node))


def _fits_array(value: Any) -> bool:
    import numpy as np

    if type(value) is np.recarray:
        return value.dtype.type is np.record and _is_exact(_void(value.dtype))
    return type(value) in (np.ndarray, np.matrix) and _is_exact(value.dtype)


def _void(dtype: Any) -> Any:
    """A record dtype as the structured one that it stands for."""
    import numpy as np

    return np.dtype((np.void, dtype))


def inline_array(value: Any) -> dict[str, Any] | None:
    """A small array as a JSON object, which `read_inline` takes too; None for anything else."""
    if type(value).__module__ != "numpy" or format_of(value) != "npy" or value.nbytes > SMALL:
        return None
    file = io.BytesIO()
    details = _put_array(value, file)
    return {"$npy": base64.b64encode(file.getvalue()).decode("ascii"), **details}


def _write_array(value: Any, path: Path) -> dict[str, Any]:
    with path.open("wb") as file:
        return _put_array(value, file)


def _read_array(path: Path, details: dict[str, Any]) -> Any:
    with path.open("rb") as file:
        return _take_array(file, details)


def _put_array(value: Any, file: IO[bytes]) -> dict[str, Any]:
    import numpy as np

    plain = value.view(np.ndarray)
    if type(value) is np.recarray:
        plain = value.view(_void(value.dtype), np.ndarray)
    np.lib.format.write_array(file, plain, allow_pickle=False)
    return {"as": type(value).__name__, **({} if value.flags.writeable else {"read_only": True})}


def _take_array(file: IO[bytes], details: dict[str, Any]) -> Any:
    import numpy as np

    value = np.lib.format.read_array(file, allow_pickle=False)
    value = value if details["as"] == "ndarray" else value.view(getattr(np, details["as"]))
    if details.get("read_only"):
        value.flags.writeable = False
    return value


def owner(value: Any) -> Any:
    """The array whose memory a plain array is a window into: itself, when it is not one, or when that cannot be told."""
    kind = type(value)
    if kind.__module__ != "numpy" or kind.__name__ != "ndarray" or value.dtype.hasobject:
        return value
    found = value
    while type(found.base) is kind:
        found = found.base
    return found if found.flags.c_contiguous and _fits_array(found) and _is_exact(value.dtype) else value


def window(value: Any, whole: Any) -> list[Any]:
    """Where in its owner an array lies: dtype, shape, strides and offset, in bytes; plain JSON."""
    import numpy as np

    offset = value.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    dtype = _descr_to_json(np.lib.format.dtype_to_descr(value.dtype))
    return [dtype, list(value.shape), list(value.strides), offset, value.flags.writeable]


def make_view(whole: Any, place: list[Any]) -> Any:
    """The array that lies there."""
    import numpy as np

    dtype, shape, strides, offset, writeable = place
    view = np.ndarray(shape, _dtype(dtype), whole, offset, strides)
    if not writeable:
        view.flags.writeable = False
    return view


def _fits_masked(value: Any) -> bool:
    import numpy as np

    return type(value) is np.ma.MaskedArray and type(value.data) is np.ndarray and _is_exact(value.dtype)


def _write_masked(value: Any, path: Path) -> dict[str, Any]:
    import numpy as np

    mask = {} if value.mask is np.ma.nomask else {"mask": value.mask}
    with path.open("wb") as file:
        np.savez(file, data=value.data, fill_value=np.asarray(value.fill_value), **mask)
    return {"hard": value.hardmask}


def _read_masked(path: Path, details: dict[str, Any]) -> Any:
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        mask = arrays.get("mask", np.ma.nomask)
        fill_value = arrays["fill_value"][()]
        return np.ma.MaskedArray(arrays["data"], mask, fill_value=fill_value, hard_mask=details["hard"])


# Sparse matrices and arrays, in scipy's own file; the two kinds that it does not have are pickled.


def _fits_sparse(value: Any) -> bool:
    scipy_sparse = sys.modules.get("scipy.sparse")
    kind = type(value)
    if scipy_sparse is None or getattr(scipy_sparse, kind.__name__, None) is not kind:
        return False
    return kind.__name__.partition("_")[0] in ("csr", "csc", "coo", "bsr", "dia") and _is_exact(value.dtype)


def _write_sparse(value: Any, path: Path) -> dict[str, Any]:
    import scipy.sparse

    with path.open("wb") as file:
        scipy.sparse.save_npz(file, value, compressed=False)
    return {"as": type(value).__name__}


def _read_sparse(path: Path, details: dict[str, Any]) -> Any:
    import scipy.sparse

    return getattr(scipy.sparse, details["as"])(scipy.sparse.load_npz(path))


# Frames and series, as Arrow. What Arrow makes of a frame is compared with it before it is trusted: whatever it does not
# keep (objects in cells, the frequency of an index, odd labels), now or in a later version, is pickled.


def _fits_frame(value: Any) -> bool:
    pandas = sys.modules["pandas"]
    if type(value) not in (pandas.DataFrame, pandas.Series) or value.attrs or not _has_arrow():
        return False
    frame = value if value.ndim == 2 else value.to_frame(name="value")
    return all(type(label) is str for label in frame.columns) and _only_texts(frame)


def _has_arrow() -> bool:
    from importlib.util import find_spec

    return find_spec("pyarrow") is not None


def _write_frame(value: Any, path: Path) -> dict[str, Any]:
    import pyarrow
    import pyarrow.feather

    kind = type(value).__name__
    frame = value.to_frame(name="value") if kind == "Series" else value
    details: dict[str, Any] = {"as": kind}
    if kind == "Series":
        if not (value.name is None or type(value.name) is str):
            raise Inexact
        details["name"] = value.name
    try:
        table = pyarrow.Table.from_pandas(frame)
        pyarrow.feather.write_feather(
            table, path, compression="lz4" if pyarrow.Codec.is_available("lz4") else "uncompressed"
        )
        again = _read_frame(path, details)
    except (pyarrow.ArrowException, ValueError, TypeError, AttributeError, KeyError, NotImplementedError) as error:
        raise Inexact from error
    if not _is_same_frame(value, again):
        raise Inexact
    return details


def _read_frame(path: Path, details: dict[str, Any]) -> Any:
    import pyarrow.feather

    table = pyarrow.feather.read_table(path, memory_map=False)
    frame = table.to_pandas()
    if details["as"] == "DataFrame":
        return frame
    series = frame["value"]
    series.name = details["name"]
    return series


def _only_texts(frame: Any) -> bool:
    """Whether the object columns hold nothing but str: Arrow would make None of NaN, and lists of tuples."""
    import numpy as np
    import pandas as pd

    texts = (
        frame.iloc[:, position]
        for position, dtype in enumerate(frame.dtypes)
        if dtype.kind == "O" and dtype.type is np.object_
    )
    return all(pd.api.types.infer_dtype(column, skipna=False) == "string" for column in texts)


def _is_same_frame(left: Any, right: Any) -> bool:
    axes = zip(left.axes, right.axes)
    return (
        left.flags == right.flags
        and all(_is_same_index(one, other) for one, other in axes)
        and list(_dtypes(left)) == list(_dtypes(right))
        and bool(left.equals(right))
    )


def _dtypes(value: Any) -> list[Any]:
    return [(dtype, repr(dtype)) for dtype in (value.dtypes if value.ndim == 2 else [value.dtype])]


def _is_same_index(one: Any, other: Any) -> bool:
    return (
        type(one) is type(other)
        and one.dtype == other.dtype
        and list(one.names) == list(other.names)
        and [type(name) for name in one.names] == [type(name) for name in other.names]
        and getattr(one, "freq", None) == getattr(other, "freq", None)
        and (one.nlevels == 1 or [level.dtype for level in one.levels] == [level.dtype for level in other.levels])
        and all(type(a) is type(b) for a, b in zip(one, other) if one.dtype == object)
        and bool(one.equals(other))
    )


class Inexact(Exception):
    """A format found, while it wrote, that it would not give this value back exactly."""

    def __init__(self) -> None:
        super().__init__("Arrow would not give it back exactly")


# Tensors in torch's own file, which is read back without running code; boosters in XGBoost's JSON.


def _fits_tensor(value: Any) -> bool:
    torch = sys.modules["torch"]
    return type(value) is torch.Tensor and value.is_leaf and not value.__dict__ and value._backward_hooks is None


def _write_tensor(value: Any, path: Path) -> dict[str, Any]:
    sys.modules["torch"].save(value, path)
    return {}


def _read_tensor(path: Path, details: dict[str, Any]) -> Any:
    import torch

    return torch.load(path, weights_only=True)


def _fits_booster(value: Any) -> bool:
    return type(value) is sys.modules["xgboost"].Booster and not set(value.__dict__) - {"handle"}


def _write_booster(value: Any, path: Path) -> dict[str, Any]:
    value.save_model(path)
    return {"settings": value.save_config()}


def _read_booster(path: Path, details: dict[str, Any]) -> Any:
    import xgboost

    value = xgboost.Booster(model_file=path)
    value.load_config(details["settings"])
    return value


FORMATS = {
    "npy": Format(".npy", _fits_array, _write_array, _read_array),
    "masked": Format(".npz", _fits_masked, _write_masked, _read_masked),
    "sparse": Format(".npz", _fits_sparse, _write_sparse, _read_sparse),
    "arrow": Format(".arrow", _fits_frame, _write_frame, _read_frame),
    "torch": Format(".pt", _fits_tensor, _write_tensor, _read_tensor),
    "xgboost": Format(".xgb.json", _fits_booster, _write_booster, _read_booster),
}
PACKAGES = {
    "numpy": ("npy", "masked"),
    "scipy": ("sparse",),
    "pandas": ("arrow",),
    "torch": ("torch",),
    "xgboost": ("xgboost",),
}
