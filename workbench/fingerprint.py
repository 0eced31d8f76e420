"""What a value is, as a short digest of its content: equal content, equal digest, in any process.

`drive` names a run by it, so that a result file is only read back by the run that wrote it. Nothing
of ours is imported here. An object with a method `fingerprint() -> str` says itself what it is
(a policy: a digest of weights, adapters and settings); any other is its class and its attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import fields, is_dataclass
from dis import get_instructions
from functools import partial
from hashlib import blake2b
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

PLAIN = (type(None), bool, int, float, complex, str, bytes)


def digest(value: Any) -> str:
    """32 hex digits that stand for the content of `value`; ValueError for what has none to look at.

    >>> digest({"a": [1, 2], "b": 0.5}) == digest({"b": 0.5, "a": [1, 2]})
    True
    >>> digest((1, 2)) == digest([1, 2])
    False
    """
    return _digest(value, ())


def _digest(value: Any, above: tuple[int, ...]) -> str:
    """`above` are the ids of the objects that hold this one: a cycle is cut where it closes."""
    state = blake2b(f"{type(value).__module__}.{type(value).__qualname__}".encode(), digest_size=16)
    pieces = ["cycle"] if id(value) in above else _pieces(value, (*above, id(value)))
    for piece in pieces:
        data = piece if isinstance(piece, bytes) else piece.encode()
        # with lengths: "ab", "c" is not "a", "bc"
        state.update(len(data).to_bytes(8, "little") + data)
    return state.hexdigest()


def _pieces(value: Any, above: tuple[int, ...]) -> Iterable[str | bytes]:
    """What makes up a value, the digests of its parts included."""

    def parts(values: Iterable[Any]) -> Iterator[str]:
        return (_digest(part, above) for part in values)

    if isinstance(value, PLAIN):
        return [repr(value)]
    if callable(getattr(value, "fingerprint", None)) and not isinstance(value, type):
        return [value.fingerprint()]
    if isinstance(value, Mapping):
        return sorted(_digest(pair, above) for pair in value.items())
    if isinstance(value, Set):
        return sorted(parts(value))
    if isinstance(value, (list, tuple)):
        return parts(value)
    if isinstance(value, (type, ModuleType, BuiltinFunctionType)):
        return [f"{getattr(value, '__module__', '')}.{value.__name__}"]
    if isinstance(value, (FunctionType, MethodType, partial)):
        return parts(_of_function(value))
    if is_dataclass(value):
        return parts(getattr(value, field.name) for field in fields(value))
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        objects = value.dtype == object  # whose bytes are addresses
        return parts([value.shape, value.tolist()]) if objects else _of_array(value)
    if hasattr(value, "__dict__"):
        return parts([vars(value), *_methods_of(type(value))])
    if made := _copied_from(value):
        return parts(made)
    remedy = f"give {type(value).__name__} a method fingerprint() -> str"
    raise ValueError(f"can't tell what {value!r:.60} is: {remedy}")


def _copied_from(value: Any) -> tuple[Any, ...]:
    """What a copy of a range, a path, a dtype, `...` is made from; empty if there is nothing."""
    try:
        made = value.__reduce_ex__(2)
    except TypeError:
        return ()
    if isinstance(made, str):
        return (made,)
    maker, given, *state = made
    bare = (
        maker.__name__ == "__newobj__"
        and len(given) == 1
        and not [x for x in state if x is not None]
    )
    return () if bare else made


def _of_function(value: Any) -> list[Any]:
    """A module's function by its name; one made on the way by its code and what it holds."""
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    held = [cell.cell_contents for cell in value.__closure__ or ()]
    name = f"{value.__module__}:{value.__qualname__}"
    if value.__module__ != "__main__" and "<" not in value.__qualname__:
        return [name]
    own = [_of_code(value.__code__), value.__defaults__, value.__kwdefaults__, held]
    return [name, *own, *_used_by(value)]


def _used_by(function: FunctionType) -> list[tuple[str, Any]]:
    """The plain values and a notebook's functions that a function uses by name; no lists, which
    may grow while it runs."""
    names, known = sorted(_globals_of(function.__code__)), function.__globals__
    used = [(name, known[name]) for name in names if name in known]
    return [(name, x) for name, x in used if isinstance(x, PLAIN) or _is_own(x)]


def _is_own(value: Any) -> bool:
    """Is this a function that a notebook, or a script, defines?"""
    return isinstance(value, FunctionType) and value.__module__ == "__main__"


def _globals_of(code: CodeType) -> set[str]:
    inner = (_globals_of(c) for c in code.co_consts if isinstance(c, CodeType))
    read = (x.argval for x in get_instructions(code) if x.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    return set(read).union(*inner)


def _methods_of(kind: type) -> list[FunctionType]:
    """What a class of a notebook does: its methods, by name."""
    return [held for _, held in sorted(vars(kind).items()) if _is_own(held)]


def _of_code(code: CodeType) -> list[Any]:
    inner = [_of_code(c) if isinstance(c, CodeType) else c for c in code.co_consts]
    return [code.co_code, code.co_names, inner]


def _of_array(value: Any) -> list[str | bytes]:
    """A NumPy array or a torch tensor, on whatever device: kind, shape and numbers."""
    numbers = value.detach().cpu().double().numpy() if hasattr(value, "detach") else value
    return [str(value.dtype), str(tuple(value.shape)), numbers.tobytes()]
