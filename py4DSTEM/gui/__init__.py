"""The desktop program.

One stream of values runs through it::

    act of the user -> Command (state) -> new Project (state) -> views draw what changed
                    -> request to a lane or a job (jobs) -> answer -> views, or a Command

``state`` is the model: frozen values, commands, undo, code, recipes; it knows no Qt.  ``jobs``
carries work to threads and answers back.  ``views`` draw, ``panels`` are the tools beside them.
Numbers come from the library; none are made here.
"""

from __future__ import annotations

__all__: list[str] = []
