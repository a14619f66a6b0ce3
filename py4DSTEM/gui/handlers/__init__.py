"""What the actions of the menus do: one module per menu, one method per action.

The action ``detector.add_disk`` of the table in ``state/actions.py`` calls the method ``add_disk``
of ``Handlers`` in ``handlers/detector.py``.
"""
