"""A worker that fails in the way that the name of the file asks for."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from py4DSTEM.batch import worker
from py4DSTEM.recipe import execute

_open = execute.open_input
_run = execute.Execution.run


def open_input(recipe: Any, path: str) -> Any:
    name = Path(path).name
    if "hang" in name:
        time.sleep(3600)
    if "crash" in name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "once" in name and not Path(path + ".tried").exists():
        Path(path + ".tried").touch()
        os._exit(3)
    if "eat" in name:
        kept = [np.empty(2 * 10**8) for _ in range(40)]  # asked for is enough
        return kept
    return _open(recipe, path)


def run(self: Any, stage: Any, options: Any = None, besides: Any = ()) -> Any:
    if "STAGE_LOG" in os.environ:
        with open(os.environ["STAGE_LOG"], "a", encoding="utf-8") as log:
            log.write(f"{self.cube.metadata.source} {stage.names}\n")
    made = _run(self, stage, options, besides)
    time.sleep(float(os.environ.get("SLOW_STEP_S", "0")))
    return made


if __name__ == "__main__":
    if "FILE_LIMIT" in os.environ:
        largest = int(os.environ["FILE_LIMIT"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    execute.open_input = open_input
    execute.Execution.run = run  # type: ignore[method-assign]
    worker.main()
