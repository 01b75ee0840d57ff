"""Defaults that are functions: written as lambdas, by which jsonargparse shows their class, and yet to be pickled."""

import inspect
from typing import Any


class Default:
    """Calls the default of an argument of a class: a lambda itself cannot go to another process (`ddp_spawn`).

    Args:
        owner: the class.
        name: of the argument.
    """

    def __init__(self, owner: type, name: str) -> None:
        self.owner, self.name = owner, name

    def __call__(self, *arguments: Any) -> Any:
        return inspect.signature(self.owner).parameters[self.name].default(*arguments)


def as_default(made: type, function: Any) -> Any:
    """Returns a function as the `Default` that it is of an argument of `made` or a class it derives from, or itself."""
    if not inspect.isfunction(function):
        return function
    for owner in made.__mro__[:-1]:
        for name, argument in inspect.signature(owner).parameters.items():
            if argument.default is function:
                return Default(owner, name)
    return function
