"""What checks annotations while the tests run; see conftest.py.

The rules are jaxtyping's and beartype's. jaxtyping's own decorator binds every call's arguments
by `inspect` and checks them twice, which took up to four fifths of a test's time; here a call is
checked once, and shapes are compared only where an annotation has some.
"""

import functools
import inspect
import types
import typing

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, install_import_hook, jaxtyped

# Where a float is expected an int is one too (PEP 484), as everywhere in Python.
checker = beartype(conf=BeartypeConf(is_pep484_tower=True))
WHOSE_BODY_RUNS_LATER = (
    inspect.isgeneratorfunction,
    inspect.iscoroutinefunction,
    inspect.isasyncgenfunction,
)


def install(package):
    """Check the functions and dataclasses of a package that is not imported yet."""
    # The hook decorates by this name.
    jaxtyping.jaxtyped = lambda *, typechecker: checked
    install_import_hook(package, "tests.shape_checks.checker")


def checked(target):
    """A function, or a dataclass, that refuses what its annotations do not allow."""
    if inspect.isclass(target):
        # Fields are checked once `__post_init__` has had its say, whose messages are for users.
        return jaxtyped(target, typechecker=checker)
    if not target.__annotations__:
        return target
    if any(is_kind(target) for is_kind in WHOSE_BODY_RUNS_LATER):
        # beartype would run in their place: jaxtyping checks the call alone.
        return jaxtyped(target, typechecker=checker)
    hints = resolved(target)
    copy = types.FunctionType(
        target.__code__,
        target.__globals__,
        target.__name__,
        target.__defaults__,
        target.__closure__,
    )
    copy = functools.update_wrapper(copy, target)
    copy.__kwdefaults__, copy.__annotations__ = target.__kwdefaults__, hints
    del copy.__wrapped__
    strict = checker(copy)
    if not any(has_shape(hint) for hint in hints.values()):
        return functools.update_wrapper(strict, target)

    @functools.wraps(target)
    def with_shapes(*args, **kwargs):
        # Letters of shapes mean the same from the arguments to the result.
        with jaxtyped("context"):
            return strict(*args, **kwargs)

    return with_shapes


def resolved(function):
    """Name -> type; Any where its name is imported for type checkers alone."""

    def evaluated(hints):
        holder = types.FunctionType((lambda: None).__code__, function.__globals__)
        holder.__annotations__ = hints
        return typing.get_type_hints(holder, include_extras=True)

    try:
        return evaluated(function.__annotations__)
    except Exception:
        hints = {}
    for name, hint in function.__annotations__.items():
        try:
            hints |= evaluated({name: hint})
        except Exception:
            hints[name] = typing.Any
    return hints


def has_shape(hint):
    """Whether a type is an array's, or holds one's."""
    if inspect.isclass(hint) and issubclass(hint, AbstractArray):
        return True
    return any(has_shape(part) for part in typing.get_args(hint) if not isinstance(part, str))
