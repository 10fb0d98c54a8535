"""What calls on tensors are called: torch's many spellings of one operation under one name, and which calls touch no values."""

from __future__ import annotations

from collections.abc import Callable

SAME = {
    "iadd": "add", "radd": "add", "isub": "sub", "subtract": "sub", "imul": "mul", "rmul": "mul", "multiply": "mul", "truediv": "div",
    "itruediv": "div", "true_divide": "div", "divide": "div", "rdiv": "rdiv", "rtruediv": "rdiv", "negative": "neg", "concat": "cat",
    "concatenate": "cat", "bmm": "matmul", "mm": "matmul", "imatmul": "matmul", "swapaxes": "transpose", "swapdims": "transpose",
    "moveaxis": "movedim", "max_pool2d_with_indices": "max_pool2d",
}  # fmt: skip
# Asked of a tensor without touching its elements.
ASKED = {
    "dim", "size", "numel", "nelement", "ndimension", "stride", "is_contiguous", "is_floating_point", "is_complex", "element_size",
    "get_device", "storage_offset", "len", "repr", "hash", "is_inference", "register_hook", "retain_grad", "get:shape", "get:device",
    "get:dtype", "get:ndim", "get:requires_grad", "get:layout", "get:grad_fn", "get:is_leaf", "get:grad", "get:itemsize", "get:nbytes",
    "get:names", "get:output_nr", "get:_version", "is_same_size", "dense_dim", "sparse_dim", "untyped_storage",
}  # fmt: skip
# New tensors of a tensor's shape.
SHAPED = {"zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"}
# Elements become Python numbers, and with that a constant or a branch of this one run.
READS = {"bool", "item", "float", "int", "index", "tolist", "numpy", "array", "complex", "contains", "nonzero", "is_nonzero", "equal",
         "allclose", "format", "dlpack"}  # fmt: skip


def name_of(func: Callable) -> tuple[str, bool]:
    """(name without underscores, properties as ``get:name``; whether it changes its first argument)."""
    raw = getattr(func, "__name__", str(func))
    if raw in ("__get__", "__set__", "__delete__"):
        return f"{raw.strip('_')}:{getattr(getattr(func, '__self__', None), '__name__', '')}", raw != "__get__"
    dunder = raw.startswith("__")
    in_place = raw in ("__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__imatmul__") if dunder else raw.endswith("_")
    name = raw.strip("_")
    if not dunder and name in ("float", "int", "bool"):
        name = f"to_{name}"  # a change of type, not a Python number
    return SAME.get(name, name), in_place


def values_touched(name: str) -> bool:
    """Whether a call's result depends on the elements of a tensor."""
    return name not in ASKED and not name.startswith("get:is_")
