"""Read plain data from a pickle without running any of it: the names in it are never imported.

The parser is `pickletools`; the machine below knows only the operations that build numbers, strings, lists, tuples and
dictionaries, and calls only the builders that it is given by name. So a pickle cannot call, import or set anything
else, and its time and memory grow with its size only. (The C machine of `pickle` reserves memory for any index.)
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

Builder = Callable[..., Any]
KEYS = (str, int, float, bool, bytes, type(None))  # of dictionaries; a tuple of tuples may take hours to hash
MAX_KEY = 2**53  # of integers as keys; those that differ by multiples of 2**61 - 1 have one hash
MAX_ARGUMENTS = 64  # of a builder
VALUES = {  # operations that carry a number or text
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
SKIPPED = frozenset(("PROTO", "FRAME", "STOP"))


def is_key(value: Any) -> bool:
    """Return whether a dictionary keeps the items under a key; the model's tensors are under strings.

    >>> is_key("conv.weight"), is_key((0, 1)), is_key(2**61 - 1)
    (True, False, False)
    """
    return isinstance(value, KEYS) and (not isinstance(value, int) or -MAX_KEY <= value <= MAX_KEY)


class Mark:
    """The place on the stack where the items of a list, tuple or dictionary begin."""


class Name:
    """A name in a pickle that stands for a builder."""

    def __init__(self, builder: Builder):
        self.builder = builder


class ForeignName(ValueError):
    """Raised for a name that has no builder; `name` is its dotted form."""

    def __init__(self, name: str):
        super().__init__(f"holds {name}; expected only tensors")
        self.name = name


class Machine:
    """The stack and memory of a pickle that is being read."""

    def __init__(self, builders: Mapping[str, Builder], persistent: Callable[[Any], Any]):
        self._builders, self._persistent = builders, persistent
        self._stack: list[Any] = []
        self._memory: dict[int, Any] = {}
        self._num_run = self._num_given = 0  # operations, and items of the lists that builders received

    def result(self) -> Any:
        """Return the object on top of the stack."""
        return self._stack[-1]

    def run(self, operation: str, argument: Any) -> None:
        """Run one operation. Raises ValueError for one that is not known, and ForeignName."""
        stack, memory = self._stack, self._memory
        self._num_run += 1
        match operation:
            case _ if operation in VALUES:
                stack.append(argument)
            case _ if operation in CONSTANTS:
                stack.append(CONSTANTS[operation])
            case "MARK":
                stack.append(Mark)
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE" | "EMPTY_SET":
                stack.append({"EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}.get(operation, list)())
            case "BINPUT" | "LONG_BINPUT" | "PUT" | "MEMOIZE":
                index = len(memory) if argument is None else int(argument)
                if not is_key(index):
                    raise ValueError("it has an impossible index")
                memory[index] = stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(memory[int(argument)])
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(reversed([stack.pop() for _ in range(int(operation[-1]))])))
            case "TUPLE" | "LIST" | "DICT":
                items = self._marked()
                made = {"TUPLE": tuple, "LIST": list, "DICT": dict}[operation]()
                stack.append(tuple(items) if operation == "TUPLE" else made)
                self._extend(stack[-1], items)
            case "APPEND" | "SETITEM":
                items = [stack.pop() for _ in range(1 + (operation == "SETITEM"))][::-1]
                self._extend(stack[-1], items)
            case "APPENDS" | "SETITEMS" | "ADDITEMS":
                items = self._marked()
                self._extend(stack[-1], items)
            case "POP":
                stack.pop()
            case "BINPERSID":
                stack.append(self._persistent(stack.pop()))
            case _:
                self._call(operation, argument)

    def _marked(self) -> list[Any]:
        """Take the items above the last mark from the stack."""
        items = []
        while (item := self._stack.pop()) is not Mark:
            items.append(item)
        return items[::-1]

    def _extend(self, container: Any, items: list[Any]) -> None:
        """Put items into a list or dictionary, which leaves out keys that are no plain values."""
        if isinstance(container, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                if is_key(key):
                    container[key] = value
        elif isinstance(container, list):
            container.extend(items)
        elif not isinstance(container, tuple):
            raise ValueError(f"items for a {type(container).__name__}")

    def _call(self, operation: str, argument: Any) -> None:
        """Run an operation that names or calls a builder, or sets the state of what one returned, which is dropped."""
        stack = self._stack
        match operation:
            case "GLOBAL":
                stack.append(self._named(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                are_texts = isinstance(name, str) and isinstance(module, str)
                stack.append(self._named(f"{module}.{name}" if are_texts else "an unnamed object"))
            case "REDUCE" | "NEWOBJ":
                arguments, called = stack.pop(), stack.pop()
                if not isinstance(called, Name) or not isinstance(arguments, tuple):
                    raise ValueError(f"it calls a {type(called).__name__}")
                self._num_given += sum(len(items) for items in arguments[:MAX_ARGUMENTS] if isinstance(items, list))
                if len(arguments) > MAX_ARGUMENTS or self._num_given > self._num_run:
                    raise ValueError("it calls builders with more items than it holds")
                stack.append(called.builder(*arguments))
            case "BUILD":
                stack.pop()
                if not stack or isinstance(stack[-1], Name):
                    raise ValueError("it sets the state of nothing")
            case _:
                raise ValueError(f"the operation {operation} is not one of plain data")

    def _named(self, name: str) -> Name:
        name = re.sub(r"^__builtin__\.", "builtins.", name)  # of Python 2, as torch.save writes it
        if name not in self._builders:
            raise ForeignName(name)
        return Name(self._builders[name])


def load(file: BinaryIO, builders: Mapping[str, Builder], persistent: Callable[[Any], Any]) -> Any:
    """Return the object of the pickle at the position of a file, which is then at its end.

    Args:
        file: The file.
        builders: Functions by dotted name, which stand for the classes and functions that the pickle names.
        persistent: A function of the persistent ids in the pickle.

    Raises:
        ForeignName: The pickle names something without a builder.
        ValueError: The pickle is damaged, or has operations that plain data do not need.
    """
    machine = Machine(builders, persistent)
    try:
        for operation, argument, _ in pickletools.genops(file):
            if operation.name not in SKIPPED:
                machine.run(operation.name, argument)
        result = machine.result()
    except (
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        MemoryError,
        RecursionError,
        UnicodeError,
    ) as error:
        raise ValueError(f"its pickle is damaged: {type(error).__name__}: {str(error)[:100]}") from None
    if result is Mark or isinstance(result, Name):
        raise ValueError("its pickle has no object")
    return result
