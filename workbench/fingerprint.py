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
        own = [] if isinstance(value, type) else _methods_of(type(value))
        return parts([*(getattr(value, field.name) for field in fields(value)), *own])
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
    maker, given, state, items, pairs = (*made, None, None, None)[:5]
    held = [state, list(items or ()), list(pairs or ())]  # no iterator: that of a deque leads back
    bare = getattr(maker, "__name__", "") == "__newobj__" and len(given) == 1
    return () if bare and held == [None, [], []] else (maker, given, *held)


def _of_function(value: Any) -> list[Any]:
    """A module's function by its name; one made on the way by its code and what it holds."""
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    name = f"{value.__module__}:{value.__qualname__}"
    if value.__module__ != "__main__" and "<" not in value.__qualname__:
        return [name]
    return [name, *_own_parts(value), *_used_by(value)]


def _own_parts(function: FunctionType) -> list[Any]:
    held = [cell.cell_contents for cell in function.__closure__ or ()]
    return [_of_code(function.__code__), function.__defaults__, function.__kwdefaults__, held]


def _used_by(function: FunctionType) -> list[Any]:
    """What a function uses by name, itself or in functions of its notebook: these, and plain values
    that it does not change; no lists, which may grow while it runs."""
    todo, seen, used = [function], {function}, []
    while todo:
        one = todo.pop()
        for name in sorted(_globals_of(one.__code__)):
            value = one.__globals__.get(name)
            if isinstance(value, PLAIN) or _is_row(value):
                used.append((name, value))
            elif _is_own(value) and value not in seen:
                seen.add(value)
                todo.append(value)
                used.append((name, *_own_parts(value)))
    return used


def _is_own(value: Any) -> bool:
    """Is this a function that a notebook, or a script, defines?"""
    return isinstance(value, FunctionType) and value.__module__ == "__main__"


def _is_row(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(x, PLAIN) or _is_row(x) for x in value)


def _globals_of(code: CodeType) -> set[str]:
    """Names that code reads from its module, but for those that it sets."""
    found: dict[str, set[str]] = {"LOAD": set(), "STORE": set()}
    for part in _with_inner(code):
        for x in get_instructions(part):
            if x.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL"):
                found[x.opname.partition("_")[0]].add(x.argval)
    return found["LOAD"] - found["STORE"]


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _with_inner(const)


def _methods_of(kind: type) -> list[FunctionType]:
    """What a class of a notebook does: its methods and those that it inherits, by name."""
    held = [x for own in kind.__mro__ for _, x in sorted(vars(own).items())]
    bare = [getattr(x, "fget", None) or getattr(x, "__func__", x) for x in held]
    return [x for x in bare if _is_own(x)]


def _of_code(code: CodeType) -> list[Any]:
    inner = [_of_code(c) if isinstance(c, CodeType) else c for c in code.co_consts]
    return [code.co_code, code.co_names, inner]


def _of_array(value: Any) -> list[str | bytes]:
    """A NumPy array or a torch tensor, on whatever device: kind, shape and numbers."""
    numbers = value.detach().cpu().double().numpy() if hasattr(value, "detach") else value
    return [str(value.dtype), str(tuple(value.shape)), numbers.tobytes()]
