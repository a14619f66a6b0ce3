"""The main job on a simulated scan, checked step by step against the truth it was made from."""

from py4DSTEM.demo.checks import Check
from py4DSTEM.demo.whole import DemoResult, run_demo

__all__ = ["Check", "DemoResult", "run_demo"]
