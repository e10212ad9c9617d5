"""What an HTML page can hold of an explanation's tensors: their numbers, cut and packed, and their thumbnails.

Query × key is kept as float16, up to SMALL numbers as float32, and all else in 8 bits: of that only so many numbers a
token as there is room for. Ranges and differences are those of the complete tensors.
"""

import base64
import math
import struct
import zlib
from typing import Any

import torch
from torch import Tensor

from .data import ExplanationData, Shown, first_to_differ

SMALL = 1024
MASKED = 1e30  # further from 0 there is no score, only the number that hides padding
TINY = 2.0**-24  # the smallest number above 0 that float16 has
TOKEN_AXES = "tokens", "query", "key"
SHADES = 16  # of each colour
NEGATIVE, POSITIVE, NO_NUMBER = b"\x2f\x7d\xe1", b"\xe0\x6a\x12", b"\x8a\x8a\x8a"  # as in page.css


class Store:
    """The numbers that the page carries.

    tokens, columns   how many tokens are kept, and how many numbers of each
    number            of a Shown, by its id
    tensors, forms    for page.js, by that number: what each tensor has of its own, and what it shares with others
    kept              for thumbnails: planes, rows and columns of what is kept
    cut               what `columns` left out, by the names of the axes
    size, growing     bytes of the data in the page, and how many of them depend on `columns`
    """

    def __init__(self, explanation: ExplanationData, tokens: int, columns: int, before: "Store | None" = None):
        self.tokens, self.columns, self.length = tokens, columns, len(explanation.tokens)
        self.number: dict[int, int] = {}
        self.tensors: list[dict[str, Any]] = []
        self.forms: list[dict[str, Any]] = []
        self.kept: list[tuple[Tensor, Tensor | None]] = []
        self.cut: dict[str, None] = {}  # a set that keeps its order
        self.growing = 0
        self._ranges: dict[int, str] = {} if before is None else before._ranges  # the same whatever is kept
        self._data = bytearray()
        self._places: dict[bytes, int] = {}
        first = first_to_differ(explanation)
        for shown in (shown for part in explanation.parts for shown in part.shown):
            self.number[id(shown)] = len(self.tensors)
            self.tensors.append(self._add(shown))
            if shown is first:
                self.tensors[-1]["first"] = 1
        self.size = -(-len(self._data) // 3) * 4

    @property
    def base64(self) -> str:
        return base64.b64encode(self._data).decode()

    def _add(self, shown: Shown) -> dict[str, Any]:
        record = shown.record
        axes, whole = _without_single(record.labels, record.tensor)
        along = self._token_axes(axes, whole)
        others = [axis for axis in range(whole.dim()) if axis not in along]
        square = whole.dim() > 1 and along[-2:] == [whole.dim() - 2, whole.dim() - 1]
        sizes = [min(size, self.tokens) if axis in along else size for axis, size in enumerate(whole.shape)]
        kind = "float16" if square else "float32" if math.prod(sizes) <= SMALL else "int8"
        if kind == "int8" and others:
            last, room = others[-1], self.columns // math.prod(sizes[axis] for axis in others[:-1])
            sizes[last] = min(sizes[last], max(1, room))
            if axes[last] and sizes[last] < whole.shape[last]:
                self.cut |= {_left(sizes[last], whole.shape[last], axes[last]): None}
        part = tuple(map(slice, sizes))
        # Laid out with tokens first, the views of one tensor are the same numbers, which are kept once.
        order = list(range(whole.dim())) if square else along + others
        planes = sorted(range(whole.dim()), key=lambda axis: axes[axis] != "heads")  # a plane for each head
        missing = 3 - len(planes)
        shape = [1] * missing + [sizes[axis] for axis in planes]
        strides = torch.empty([sizes[axis] for axis in order]).stride()
        form = {
            "axes": [""] * missing + [axes[axis] for axis in planes],
            "sizes": shape,
            "steps": [0] * missing + [strides[order.index(axis)] for axis in planes],
            "kind": kind,
            "left": [_left(sizes[axis], whole.shape[axis], axes[axis]) for axis in planes if sizes[axis] < whole.shape[axis]],
        }
        if form not in self.forms:
            self.forms.append(form)

        kept, difference = whole[part], None
        tensor = {"form": self.forms.index(form), "range": self._range(record.tensor), **self._keep(kept.permute(order), kind)}
        if shown.beside is not None:
            _, other = _without_single(record.labels, shown.beside.tensor)
            difference = other[part] - kept
            verdict = "agrees" if shown.beside.agrees else "differs"
            tensor["other"] = {
                "range": self._range(shown.beside.tensor),
                "verdict": f"largest difference {shown.beside.difference:.3g}: {verdict}",
                "agrees": int(shown.beside.agrees),
                **self._keep(difference.permute(order), kind),
            }
            difference = difference.permute(planes).reshape(shape)
        self.kept.append((kept.permute(planes).reshape(shape), difference))
        return tensor

    def _range(self, tensor: Tensor) -> str:
        if id(tensor) not in self._ranges:
            self._ranges[id(tensor)] = _range(tensor)
        return self._ranges[id(tensor)]

    def _token_axes(self, axes: list[str], whole: Tensor) -> list[int]:
        """Which axes are tokens; where no comment names them, their size has to tell."""
        if any(axes):
            return [number for number, axis in enumerate(axes) if axis in TOKEN_AXES]
        found = [axis for axis, size in enumerate(whole.shape) if size == self.length]
        return found if found[-2:] == [whole.dim() - 2, whole.dim() - 1] else found[:1]

    def _keep(self, tensor: Tensor, kind: str) -> dict[str, Any]:
        """Where the numbers lie, how far they may be rounded, and from which on colour is full: 1 in 100 lies beyond."""
        values = tensor.flatten()
        sizes = values[values.abs() < MASKED].abs()
        largest = float(sizes.max()) if len(sizes) else 0.0
        full = (float(sizes.quantile(0.99)) if len(sizes) else 0.0) or largest or 1.0
        unit = 1.0
        if kind == "int8":
            # Roots, since a few numbers are far larger than all others. -128 is not a number, -127 and 127 are beyond all others.
            unit = largest / 126 or 1.0
            codes = ((values.abs() / unit * 126).sqrt() * values.sign()).round().clamp(-127, 127)
            values = torch.where(codes.isnan(), -128.0, codes).to(torch.int8)
        else:
            exact, values = values, values.to(getattr(torch, kind))
            values = torch.where((values == 0) & (exact != 0), TINY * exact.sign().to(values.dtype), values)  # not 0 stays not 0
        data = bytes(values.contiguous().view(torch.uint8).tolist())
        if data not in self._places:
            self._places[data] = len(self._data)
            self._data += data
            self.growing += len(data) * 4 // 3 if kind == "int8" else 0
        return {"at": self._places[data], "unit": float(f"{unit:.7g}"), "full": float(f"{full:.4g}")}


def _without_single(axes: tuple[str, ...], tensor: Tensor) -> tuple[list[str], Tensor]:
    """Names of the axes ("" where unknown) and the tensor, without the axes of one sentence; three of them at most."""
    names = list(axes)
    gone = [axis for axis, size in enumerate(tensor.shape) if size == 1 and names[axis] in ("batch", "1", "")]
    names = [name for axis, name in enumerate(names) if axis not in gone]
    tensor = tensor.cpu().float().squeeze(gone)
    return (names, tensor) if tensor.dim() < 4 else (["", *names[-2:]], tensor.flatten(0, -3))


def _left(kept: int, size: int, axis: str) -> str:
    return f"the first {kept} of {size} {axis or 'columns'}"


def _range(tensor: Tensor) -> str:
    """Smallest, largest and mean number of the complete tensor; the numbers that hide padding are counted beside them."""
    if tensor.dtype == torch.bool:
        return f"{int(tensor.sum())} of {tensor.numel()} true"
    if tensor.numel() == 1:
        return _number(tensor.item())
    hides = tensor.double().abs().gt(MASKED) & tensor.isfinite()
    rest = tensor[~hides].double()
    masked = f"{int(hides.sum())} hide padding" if hides.any() else ""
    if not len(rest):
        return masked
    low, high = (_number(number.to(tensor.dtype).item()) for number in (rest.min(), rest.max()))
    return f"{low} … {high}, mean {_number(rest.mean().item())}" + (f"; {masked}" if masked else "")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def thumbnail(values: Tensor, full: float) -> str:
    """A heat map of (planes, rows, columns) as PNG: blue below 0, orange above, clear at 0, so that it suits light and dark."""
    planes, rows, columns = values.shape
    down, across = (min(16, rows), min(16, columns)) if planes > 1 else (min(32, rows), min(96, columns))
    picked = values[:, torch.arange(down) * rows // down][:, :, torch.arange(across) * columns // across]
    shades = (picked / full).clamp(-1, 1).mul(SHADES).round() + SHADES
    shades = torch.where(picked.abs() < MASKED, shades, 2 * SHADES + 1).to(torch.uint8)
    beside = min(planes, 6)
    high = -(-planes // beside)
    image = torch.full((high * (down + 1) - 1, beside * (across + 1) - 1), SHADES, dtype=torch.uint8)
    for number, plane in enumerate(shades):
        top, left = number // beside * (down + 1), number % beside * (across + 1)
        image[top : top + down, left : left + across] = plane
    lines = b"".join(b"\0" + bytes(line) for line in image.tolist())
    head = struct.pack(">2I5B", image.shape[1], image.shape[0], 8, 3, 0, 0, 0)
    palette = NEGATIVE * SHADES + b"\0\0\0" + POSITIVE * SHADES + NO_NUMBER
    clear = bytes(abs(shade) * 255 // SHADES for shade in range(-SHADES, SHADES + 1))
    chunks = (b"IHDR", head), (b"PLTE", palette), (b"tRNS", clear), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")
    png = b"".join(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks)
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + png).decode()
