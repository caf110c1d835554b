"""This file lets ``help`` explain each setting by the text that stands below it in the source."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeVar

T = TypeVar("T")


class Described:
    """The docstring of a dataclass, with its fields explained; put together where it is read.

    Reading sources takes longer than making all settings, and hardly any program asks for it.

    Args:
        cls: the class, which has a docstring of its own or is given an empty one.

    Example:
        >>> import kitae_marl
        >>> print(kitae_marl.PPOConfig.__doc__.split("clip: ")[1].splitlines()[0])
        Largest change of the probability ratio that is rewarded.
    """

    def __init__(self, cls: type) -> None:
        self._cls, self._own = cls, inspect.cleandoc(vars(cls).get("__doc__") or "")

    def __get__(self, instance: Any, owner: type) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        texts = explained(self._cls)
        lines = [
            textwrap.indent(f"{name}: {texts[name]}", "    ").replace("\n", "\n    ")
            for name in (field.name for field in dataclasses.fields(self._cls))
            if name in texts
        ]
        return "\n".join([self._own, "", "Settings:", *lines]) if lines else self._own


def explained(cls: type) -> dict[str, str]:
    """Return the texts below the fields of a class and its bases; none where there is no source."""
    texts: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        try:
            (node,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        except (OSError, TypeError):  # a class of C, or one that was typed into an interpreter
            continue
        body = node.body if isinstance(node, ast.ClassDef) else []
        for field, below in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                match below:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        texts[field.target.id] = inspect.cleandoc(text)
    return texts


def described(cls: type[T]) -> type[T]:
    """Decorate a dataclass: its docstring explains each of its fields from now on."""
    cls.__doc__ = Described(cls)  # pyright: ignore[reportAttributeAccessIssue] - a type reads it
    return cls
