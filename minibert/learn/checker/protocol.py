"""An answer in another process: what is asked of it, and what comes back, as data.

    where it is judged   Remote.run(case)  -- ["run", [{"case": 3}], {}] -->  serve()   where its lines run
                                           <-- {"run": [...]}, tensors  --

A message is JSON and the bytes of tensors, never a pickle: nothing that an answer sends is run where it is judged. No message can
say that an answer is right, since it holds numbers to compare, or a CheckFailed.
"""

import ctypes
import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from mmap import mmap
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from ..course.exercise import Exercise
from ..stubs.sample_inputs import Case
from .answer import hide, load
from .by_hand import forbidden
from .check import STAGES
from .exceptions import CheckFailed
from .trial import Run, cases_of

WORDS = 2**24  # bytes of JSON in a message, at most
NUMBERS = 2**30  # bytes of tensors
ROOM = 2**28  # bytes of memory that both processes see; the pipe, which is slow, takes what does not fit there
LONGEST = 10_000  # characters of a finding
BASES: dict[str, Any] = {base.__name__: base for base in (tuple, list, dict, set, frozenset, str, int, float)}


class Other:
    """What stands for an object that is not data: its type has the same name, and it the same repr."""

    def __init__(self, words: str):
        self.words = words

    def __repr__(self) -> str:
        return self.words

    def __eq__(self, other: object) -> bool:
        return (type(self).__name__, self.words) == (type(other).__name__, repr(other))

    def __hash__(self) -> int:
        return hash(self.words)


class NoData(TypeError):
    """What a judge cannot hand to an answer; says in one sentence why."""


class Channel:
    """One end of the way between two processes.

    cases   a Case is sent as its number among these
    room    memory that both see, or None
    asks    whether only plain data may be sent, since the other side works on it
    """

    def __init__(self, connection: Connection, cases: tuple[Case, ...], room: mmap | None, asks: bool = False):
        self.connection, self.cases, self.room, self.asks = connection, cases, room, asks
        self.taken = 0  # bytes of the room
        self.left = 0  # bytes of tensors that a message may still have
        self.loose: list[Any] = []  # buffers for the pipe

    def send(self, value: Any) -> None:
        """Raises ValueError for what is too large, NoData for what is not data and has to be."""
        self.taken, self.left, self.loose = 0, NUMBERS, []
        words = json.dumps(self._packed(value)).encode()
        if len(words) > WORDS:
            raise ValueError(f"{len(words):,} bytes without the tensors, more than there is room for")
        self.connection.send_bytes(words)
        for buffer in self.loose:
            self.connection.send_bytes(buffer)

    def receive(self) -> Any:
        """What was sent. Raises EOFError or ConnectionError where nobody sends, anything else for what cannot be read."""
        self.left = NUMBERS
        return self._unpacked(json.loads(self.connection.recv_bytes(WORDS)))

    def _packed(self, value: Any) -> Any:
        if value is None or type(value) in (bool, int, float, str):
            return value
        if type(value) is list:
            return [self._packed(item) for item in value]
        if isinstance(value, Tensor):
            return self._packed_tensor(value)
        if isinstance(value, Case):
            return {"case": self.cases.index(value)}
        if isinstance(value, CheckFailed):
            return {"finding": [value.stage, value.text]}
        if isinstance(value, Run):
            return {"run": [self._packed(value.values), self._packed(value.error), list(value.changed)]}
        told: dict[str, Any] = {"type": type(value).__name__}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = [field.name for field in dataclasses.fields(value)]
            return told | {"fields": {name: self._packed(getattr(value, name, None)) for name in fields}}
        if isinstance(value, Mapping):
            return told | {"base": "dict", "of": [[self._packed(key), self._packed(item)] for key, item in value.items()]}
        for name, base in BASES.items():
            if isinstance(value, base):
                held = base(value) if base in (str, int, float) else [self._packed(item) for item in value]
                return told | {"base": name, "of": held}
        if self.asks:
            raise NoData(f"an answer cannot be given {told['type']}; expected tensors, numbers, texts, or lists and dicts of them")
        return told | {"words": repr(value)}

    def _packed_tensor(self, tensor: Tensor) -> dict[str, Any]:
        tensor = tensor.detach().to_dense().resolve_conj().resolve_neg().contiguous()
        size = tensor.numel() * tensor.element_size()
        self.left -= size
        if self.left < 0:
            raise ValueError(f"more than {NUMBERS / 1e9:.1f} GB of numbers")
        told = {"tensor": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}
        if not size:
            return told
        if self.room is None or self.taken + size > ROOM:
            buffer = (ctypes.c_char * size).from_address(tensor.data_ptr())
            buffer.tensor = tensor  # type: ignore[attr-defined]  # which keeps its memory
            self.loose.append(buffer)
            return told
        place, self.taken = self.taken, self.taken + -(-size // 64) * 64
        ctypes.memmove((ctypes.c_char * size).from_buffer(self.room, place), tensor.data_ptr(), size)
        return told | {"at": place}

    def _unpacked(self, told: Any) -> Any:
        if isinstance(told, list):
            return [self._unpacked(item) for item in told]
        if not isinstance(told, dict):
            return told
        if "case" in told:
            return self.cases[told["case"]]
        if "tensor" in told:
            return self._unpacked_tensor(told)
        if "finding" in told:
            stage, text = told["finding"]
            if stage not in STAGES or stage == STAGES[-1]:
                raise ValueError(f"an answer does not say of itself that it is {stage!r}")
            return CheckFailed(stage, str(text)[:LONGEST])
        if "run" in told:
            values, error, changed = map(self._unpacked, told["run"])
            plain = type(values) is dict and all(isinstance(name, str) for name in (*values, *changed))
            if not plain or not isinstance(error, CheckFailed | None):
                raise TypeError("no Run")
            return Run(values, error, tuple(changed))
        if "fields" in told:
            values = {name: self._unpacked(item) for name, item in told["fields"].items()}
            return dataclasses.make_dataclass(told["type"], values)(**values)
        if "words" in told:
            return type(told["type"], (Other,), {})(told["words"])
        base, of = BASES[told["base"]], self._unpacked(told["of"])
        kind: Any = base if told["type"] == told["base"] else type(told["type"], (base,), {})
        return kind(of)

    def _unpacked_tensor(self, told: dict[str, Any]) -> Tensor:
        dtype, shape = getattr(torch, told["tensor"]), told["shape"]
        count = math.prod(shape)
        size = count * dtype.itemsize
        self.left -= size
        if self.left < 0 or count < 0:
            raise ValueError("too many numbers")
        if not size:
            return torch.empty(shape, dtype=dtype)
        if "at" in told:  # a copy, which nobody else can change
            return torch.frombuffer(self.room, dtype=dtype, count=count, offset=told["at"]).reshape(shape).clone()
        return torch.frombuffer(bytearray(self.connection.recv_bytes(size)), dtype=dtype).reshape(shape)


class Remote:
    """An answer in another process, with the methods of answer.Answer or answer.Page.

    They raise CheckFailed for what it tells, for what cannot be read, and where nobody answers.

    ended   whether there is nobody who could answer; how it ended is for whoever started it to say
    """

    def __init__(self, connection: Connection, exercise: Exercise, room: mmap | None):
        self._channel = Channel(connection, () if exercise.judge else cases_of(exercise), room, asks=True)
        self.ended = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(self._ask, name)

    def _ask(self, name: str, *args: Any, **kwargs: Any) -> Any:
        try:
            self._channel.send([name, list(args), kwargs])
            reply = self._channel.receive()
        except (EOFError, ConnectionError) as error:
            self.ended = True
            raise CheckFailed("does not answer", "The process of your lines has ended.") from error
        except NoData:
            raise
        except Exception as error:
            raise CheckFailed("does not answer", "What came in place of your lines' results cannot be read.") from error
        if isinstance(reply, CheckFailed):
            raise reply
        return reply


def serve(connection: Connection, exercise: Exercise, file: str, room: mmap | None) -> None:
    """Does what a Remote asks, until nobody asks any more. The first request loads the text of the file."""
    cases = () if exercise.judge else tuple(dataclasses.replace(case, wanted={}) for case in cases_of(exercise))
    forbidden(exercise)  # looks at the real lines, once
    cases_of.cache_clear()  # what has to come out is none of the answer's business
    take_away = hide(exercise)
    channel = Channel(connection, cases, room)
    loaded: Any = None
    reply: Any = None
    while True:
        try:
            name, args, kwargs = channel.receive()
        except EOFError:
            return
        try:
            if name == "load":
                loaded, reply = load(exercise, args[0], file), None
                take_away()
            else:
                with torch.no_grad():
                    reply = getattr(loaded, name)(*args, **kwargs)
        except CheckFailed as found:
            reply = found
        except KeyboardInterrupt:
            reply = CheckFailed("does not answer", "Your lines raise KeyboardInterrupt, which is for Ctrl-C alone.")
        try:
            channel.send(reply)
        except ConnectionError:
            return
        except Exception as error:
            channel.send(CheckFailed("wrong kind", f"What your lines make cannot be compared: {type(error).__name__}: {error}."))
