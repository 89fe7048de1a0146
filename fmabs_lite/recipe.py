"""What an object of this package was made with, as JSON, so that a file can make it again."""

import functools
import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

PACKAGE = __package__
PLAIN = (type(None), bool, int, float, str)


def recorded(**instead: Any):
    """Decorate a class so that its objects note the arguments they were made with.

    A subclass notes nothing: what its `__init__` does is not known here.

    Args:
        instead: values to note in place of arguments that say only how to train, or where first
            weights come from.
    """

    def decorate(cls: type) -> type:
        init = cls.__init__
        signature = inspect.signature(init)

        @functools.wraps(init)
        def noting(self, *args, **kwargs) -> None:
            init(self, *args, **kwargs)
            if type(self) is cls:
                given = signature.bind(self, *args, **kwargs).arguments
                given = {name: value for name, value in [*given.items()][1:]} | instead
                self._recipe = {
                    "class": f"{cls.__module__}.{cls.__qualname__}",
                    "arguments": {name: recipe_of(value) for name, value in given.items()},
                }

        cls.__init__ = noting
        return cls

    return decorate


def recipe_of(value: Any) -> Any:
    """The recipe of an argument: itself, a list, a class with its arguments, or a stranger."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [recipe_of(part) for part in value]
    kind = type(value)
    stranger = {"stranger": f"{kind.__module__}.{kind.__qualname__}"}
    return getattr(value, "_recipe", None) or stranger


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
    """The object of a recipe without strangers, untrained. Only this package's classes are made.

    Raises:
        ValueError: when the recipe names a class that the package does not have.
    """
    if isinstance(recipe, list):
        return [made(part) for part in recipe]
    if not isinstance(recipe, dict):
        return recipe
    module, _, name = recipe["class"].rpartition(".")
    # A file may name anything; only classes that were decorated here are called.
    known = module.startswith(f"{PACKAGE}.") and getattr(import_module(module), name, None)
    if not known or not hasattr(known.__init__, "__wrapped__"):
        raise ValueError(
            f"This fmabs_lite has no {recipe['class']}. Install the version that wrote the file, "
            "or pass build=, a function that returns the detector."
        )
    return known(**{key: made(part) for key, part in recipe["arguments"].items()})
