"""The methods of an analysis in words, from its history."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from py4DSTEM.core.history import History, Step
from py4DSTEM.report.references import cited_as

__all__ = ["methods_text", "steps_of"]

_PACKAGES = ("numpy", "scipy", "numba", "h5py", "python")
_LONGEST = 200


def steps_of(histories: Iterable[History]) -> tuple[Step, ...]:
    """The steps of several results, each once, in the order in which they first occur.

    Two steps are one if kind, version and parameters agree.

    >>> a = History().then("mean-pattern")
    >>> [step.kind for step in steps_of([a, a.then("quality")])]
    ['mean-pattern', 'quality']
    """
    found: dict[str, Step] = {}
    for history in histories:
        for step in history.steps:
            parameters = json.dumps(step.parameters, sort_keys=True, default=str)
            found.setdefault(f"{step.kind} {step.version} {parameters}", step)
    return tuple(found.values())


def methods_text(
    steps: Sequence[Step],
    environment: Mapping[str, str],
    *,
    about: Mapping[str, str] | None = None,
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """What was done, as a paper's methods section would list it.

    Parameters
    ----------
    steps : sequence of Step
    environment : mapping of str to str
        Versions, as in `History.environment`.
    about : mapping of str to str, optional
        Kind of a step → what it does, in a sentence.
    defaults : mapping of str to mapping, optional
        Kind of a step → its parameters where nothing was chosen; these are not listed.

    Returns
    -------
    str
        One paragraph, one line per step, and what to cite.

    Examples
    --------
    >>> history = History().then("strain-map", {"axis": "g1"}, 1, ("10.1017/S1431927621000477",))
    >>> print(methods_text(history.steps, {"py4DSTEM": "1.0"}))
    The data were analysed with py4DSTEM 1.0.
    <BLANKLINE>
    1. strain-map, version 1, with axis = "g1" [Savitzky et al. (2021),
       doi:10.1017/S1431927621000477].
    <BLANKLINE>
    Parameters that are not listed had their defaults.
    """
    used = ", ".join(f"{name} {environment[name]}" for name in _PACKAGES if name in environment)
    program = f"The data were analysed with py4DSTEM {environment.get('py4DSTEM', '')}".rstrip()
    lines = [f"{program} ({used})." if used else f"{program}.", ""]
    for number, step in enumerate(steps, start=1):
        known = (defaults or {}).get(step.kind, {})
        lines += _wrapped(f"{number}. ", _sentence(step, known, (about or {}).get(step.kind, "")))
    return "\n".join([*lines, "", "Parameters that are not listed had their defaults."])


def _sentence(step: Step, defaults: Mapping[str, Any], about: str) -> str:
    chosen = [
        f"{name} = {_value(value)}"
        for name, value in step.parameters.items()
        if name not in defaults or defaults[name] != value
    ]
    words = f"{step.kind}, version {step.version}" + (f": {about.rstrip('.')}" if about else "")
    words += f", with {', '.join(chosen)}" if chosen else ""
    return words + (f" [{cited_as(step.cites)}]." if step.cites else ".")


def _value(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    if len(text) <= _LONGEST:
        return text
    return f"({len(value)} values)" if isinstance(value, list) else f"{text[: _LONGEST - 1]}…"


def _wrapped(first: str, text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 80, initial_indent=first, subsequent_indent=" " * len(first),
                         break_long_words=False, break_on_hyphens=False)  # fmt: skip
