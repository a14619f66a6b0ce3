"""Pictures of values; matplotlib is imported when the first one is drawn."""

from py4DSTEM.plot.draw import show

__all__ = ["show"]
