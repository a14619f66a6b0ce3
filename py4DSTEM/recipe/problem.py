"""What is wrong with a recipe, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from py4DSTEM.errors import ParameterError

__all__ = ["Problem", "RecipeError"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a recipe.

    Parameters
    ----------
    line : int
        Of the text, from 1.
    step : str
        Number and name, as ``'3 "bragg"'``; "" outside the steps.
    message : str
        What is wrong, what is allowed, what to do.
    """

    line: int
    step: str
    message: str

    def text(self, name: str = "recipe") -> str:
        """As ``name:line: step …: message``.

        >>> Problem(3, '1 "probe"', "what?").text("R.toml")
        'R.toml:3: step 1 "probe": what?'
        """
        return f"{name}:{self.line}: {f'step {self.step}: ' if self.step else ''}{self.message}"


class RecipeError(ParameterError):
    """A recipe that cannot be run.

    Parameters
    ----------
    problems : sequence of Problem
        All of them, in the order of the text.
    name : str
        Of the file.
    """

    def __init__(self, problems: Sequence[Problem], name: str = "recipe") -> None:
        self.problems = tuple(problems)
        self.name = name
        count = len(self.problems)
        end = f"{count} problem{'s' if count != 1 else ''}; nothing was run."
        super().__init__("\n".join([*(p.text(name) for p in self.problems), end]))

    def __reduce__(self) -> tuple[object, ...]:
        return (RecipeError, (self.problems, self.name))
