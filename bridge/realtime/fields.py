"""Strict readers of decoded JSON: value and dotted path in, RequestError out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bridge.errors import RequestError

Reader = Callable[[Any, str], Any]

MAX_TEXT = 262_144  # characters of one string that is kept for the life of a session


def kind(value: object) -> str:
    """The JSON name of a value's type, as error messages spell it."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def missing(path: str) -> RequestError:
    return RequestError(
        f"Missing required parameter: '{path}'.", code="missing_required_parameter", param=path
    )


def unknown(path: str) -> RequestError:
    return RequestError(f"Unknown parameter: '{path}'.", code="unknown_parameter", param=path)


def wrong_type(path: str, expected: str, value: object) -> RequestError:
    return RequestError(
        f"Invalid type for '{path}': expected {expected}, but got {kind(value)} instead.",
        code="invalid_type",
        param=path,
    )


def unsupported(path: str, value: str, supported: Sequence[str]) -> RequestError:
    names = [f"'{name}'" for name in supported]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])}, and {names[-1]}"
    return RequestError(
        f"Invalid value: '{value[:64]}'. Supported values are: {listed}.",
        code="invalid_value",
        param=path,
    )


def out_of_range(path: str, reason: str) -> RequestError:
    return RequestError(f"Invalid '{path}': {reason}.", code="invalid_value", param=path)


def as_object(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong_type(path, "an object", value)
    return value


def as_array(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise wrong_type(path, "an array", value)
    return value


def as_bool(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise wrong_type(path, "a boolean", value)
    return value


def as_text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise wrong_type(path, "a string", value)
    if len(value) > MAX_TEXT:
        raise out_of_range(path, f"string too long. Expected at most {MAX_TEXT} characters")
    if well_formed(value) != value:
        raise out_of_range(path, "expected Unicode text without lone surrogates")
    return value


def well_formed(text: str) -> str:
    """`text` that UTF-8 can carry: a model may send half of a surrogate pair in each delta."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def as_name(value: Any, path: str) -> str:
    text = as_text(value, path)
    if not text or len(text) > 512:
        raise out_of_range(path, "expected a string of 1 to 512 characters")
    return text


def one_of(*supported: str) -> Reader:
    def read(value: Any, path: str) -> str:
        text = as_text(value, path)
        if text not in supported:
            raise unsupported(path, text, supported)
        return text

    return read


def integer(low: int, high: int) -> Reader:
    def read(value: Any, path: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(path, "an integer", value)
        if not low <= value <= high:
            raise out_of_range(path, f"expected a value between {low} and {high}")
        return value

    return read


def decimal(low: float, high: float) -> Reader:
    def read(value: Any, path: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_type(path, "a decimal", value)
        if not low <= value <= high:
            raise out_of_range(path, f"expected a value between {low} and {high}")
        return float(value)

    return read


def nullable(reader: Reader) -> Reader:
    return lambda value, path: None if value is None else reader(value, path)


def array_of(reader: Reader, *, most: int) -> Reader:
    def read(value: Any, path: str) -> tuple[Any, ...]:
        array = as_array(value, path)
        if len(array) > most:
            raise out_of_range(path, f"array too long. Expected at most {most} elements")
        return tuple(reader(element, f"{path}[{n}]") for n, element in enumerate(array))

    return read


def record(
    readers: Mapping[str, Reader], *, required: Sequence[str] = (), extra: bool = False
) -> Reader:
    """An object with these members; `extra` lets others pass unread and unkept."""

    def read(value: Any, path: str) -> dict[str, Any]:
        found = as_object(value, path)
        for name in required:
            if name not in found:
                raise missing(f"{path}.{name}")
        if not extra:
            refuse_unknown(found, readers, path)
        return {
            name: reader(found[name], f"{path}.{name}")
            for name, reader in readers.items()
            if name in found
        }

    return read


def refuse_unknown(found: Mapping[str, Any], known: Mapping[str, Any], path: str) -> None:
    for name in found:
        if name not in known:
            raise unknown(f"{path}.{name[:64]}")
