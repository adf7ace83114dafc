"""The tests' own checker: it refuses what jaxtyping's decorator refuses, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest
from jaxtyping import Float32

from av_grounding.audio import to_clean_mono
from tests import shape_checks

if TYPE_CHECKING:
    from nowhere import Unknown

SQUARE, WIDE = np.zeros((2, 2), np.float32), np.zeros((2, 3), np.float32)


def same(one: Float32[np.ndarray, "h w"], two: Float32[np.ndarray, "h w"]) -> None: ...


def returned(one: Float32[np.ndarray, "h w"], given: object) -> Float32[np.ndarray, "h w"]:
    return given


def nested(ones: tuple[Float32[np.ndarray, "h w"], ...] | None) -> None: ...


def scaled(factor: float, num: int = 1, *, name: str = "") -> float:
    return name or factor * num


def unknown(one: Unknown, num: int) -> Unknown:
    return one


def generator(num: int):
    yield num


class Owner:
    def method(self, one: Float32[np.ndarray, "h h"], *rest: int, **named: str) -> int:
        return super().__hash__() and 1


def by_jaxtyping(target):
    return shape_checks.jaxtyped(target, typechecker=shape_checks.checker)


def record(decorate):
    @decorate
    @dataclass(frozen=True)
    class Record:
        one: Float32[np.ndarray, "h w"]
        two: Float32[np.ndarray, "h w"]
        nums: list[int] = field(default_factory=list)

    return Record


@pytest.mark.parametrize("decorate", [shape_checks.checked, by_jaxtyping])
@pytest.mark.parametrize(
    ("function", "right", "wrong"),
    [
        (same, [(SQUARE, SQUARE), (WIDE, WIDE)], [(SQUARE, WIDE), (SQUARE, SQUARE[0])]),
        (same, [], [(SQUARE, SQUARE.astype(np.float64)), (SQUARE, None)]),
        (returned, [(WIDE, WIDE)], [(WIDE, SQUARE), (WIDE, None)]),
        (nested, [(None,), ((WIDE,),), ((),)], [((SQUARE[0],),), ([WIDE],)]),
        (scaled, [(2,), (2.5, 3)], [("2",), (2, 2.5), (2, None)]),
        (unknown, [("any", 1)], [("any", "1")]),
        (generator, [(1,)], [("1",)]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_it_refuses_what_jaxtyping_refuses(decorate, function, right, wrong):
    checked = decorate(function)
    for arguments in right:
        checked(*arguments)
    for arguments in wrong:
        with pytest.raises(Exception, match=r"hint|Type-check"):
            checked(*arguments)


@pytest.mark.parametrize("decorate", [shape_checks.checked, by_jaxtyping])
def test_methods_and_dataclasses_are_checked_too(decorate):
    method = decorate(Owner.method)
    assert method(Owner(), SQUARE, 1, 2, name="x") == 1
    for arguments in ((Owner(), WIDE), (Owner(), SQUARE, "x")):
        with pytest.raises(Exception, match=r"hint|Type-check"):
            method(*arguments)
    with pytest.raises(Exception, match=r"hint|Type-check"):
        method(Owner(), SQUARE, name=1)
    with pytest.raises(Exception, match=r"hint|Type-check"):
        decorate(scaled)(1, name="x")
    checked = record(decorate)
    assert checked(WIDE, WIDE).nums == []
    with pytest.raises(Exception, match=r"hint|Type-check"):
        checked(WIDE, SQUARE)


def test_what_it_hands_out_looks_as_before():
    for function in (same, scaled, unknown):
        checked = shape_checks.checked(function)
        assert checked is not function
        assert (checked.__name__, checked.__doc__) == (function.__name__, function.__doc__)
        assert checked.__annotations__ == function.__annotations__
        assert checked.__wrapped__ is function


def test_the_package_is_checked():
    with pytest.raises(Exception, match=r"hint|Type-check"):
        to_clean_mono("no array")
