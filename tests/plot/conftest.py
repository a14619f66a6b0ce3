"""Figures are drawn off screen and closed after every test."""

from collections.abc import Iterator

import matplotlib as mpl
import pytest

mpl.use("Agg")


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    from matplotlib import pyplot as plt

    plt.close("all")
