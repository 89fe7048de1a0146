"""What an object of this package was made with, as JSON, so that a file can make it again."""

import functools
import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

PACKAGE = __package__


def recorded(**instead: Any) -> Callable:
    """Decorate a class or a function, so that what it makes notes the arguments it was made with.

    An object of a subclass notes nothing: what its `__init__` does is not known here.

    Args:
        instead: values to note in place of arguments that only a training needs, or that say
            where first weights come from.
    """

    def decorate(made_by: Callable) -> Callable:
        name = f"{made_by.__module__}.{made_by.__qualname__}"
        is_class = isinstance(made_by, type)
        call = made_by.__init__ if is_class else made_by
        signature = inspect.signature(call)

        def note(thing: Any, *args, **kwargs) -> None:
            given = signature.bind(*args, **kwargs)
            arguments = {name: recipe_of(value) for name, value in named(given).items()}
            thing._recipe = {"made_by": name, "arguments": arguments | instead}

        @functools.wraps(call)
        def noting(*args, **kwargs):
            made = call(*args, **kwargs)
            if not is_class:
                note(made, *args, **kwargs)
            elif type(args[0]) is made_by:
                note(args[0], *args, **kwargs)
            return made

        if is_class:
            made_by.__init__ = noting
        recording = made_by if is_class else noting
        recording._is_recorded = name
        return recording

    return decorate


def named(given: inspect.BoundArguments) -> dict[str, Any]:
    """Arguments by name, without `self`; those that `**options` took stand beside the others."""
    rest = [name for name, p in given.signature.parameters.items() if p.kind == p.VAR_KEYWORD]
    found = {k: v for k, v in given.arguments.items() if k not in ("self", *rest)}
    return found | (given.arguments.get(rest[0], {}) if rest else {})


def recipe_of(value: Any) -> Any:
    """The recipe of an argument: itself, a list, a call with its arguments, or a stranger."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [recipe_of(part) for part in value]
    kind = type(value)
    return getattr(value, "_recipe", {"stranger": f"{kind.__module__}.{kind.__qualname__}"})


def strangers(recipe: Any) -> list[str]:
    """The classes in a recipe that this package cannot make."""
    if isinstance(recipe, list):
        return [name for part in recipe for name in strangers(part)]
    if not isinstance(recipe, dict):
        return []
    if "stranger" in recipe:
        return [recipe["stranger"]]
    return [name for part in recipe["arguments"].values() for name in strangers(part)]


def made(recipe: Any) -> Any:
    """The object of a recipe without strangers, untrained.

    Raises:
        ValueError: when the package has no such class.
    """
    if isinstance(recipe, list):
        return [made(part) for part in recipe]
    if not isinstance(recipe, dict):
        return recipe
    module, _, name = recipe["made_by"].rpartition(".")
    # A file may name anything; only what was decorated in this package is called.
    ours = module.startswith(f"{PACKAGE}.")
    known = getattr(import_module(module), name, None) if ours else None
    if getattr(known, "_is_recorded", None) != recipe["made_by"]:
        raise ValueError(
            f"This fmabs_lite cannot make {recipe['made_by']}. Install the version that wrote the "
            "file, or give load a function that makes the detector: build=."
        )
    return known(**{key: made(part) for key, part in recipe["arguments"].items()})
