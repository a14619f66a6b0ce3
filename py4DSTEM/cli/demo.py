"""``py4dstem demo``: the main job on a simulated scan, checked against its truth."""

from __future__ import annotations

import argparse
from pathlib import Path

from py4DSTEM.cli.output import Exit, emit, emit_json, say


def run(options: argparse.Namespace) -> int:
    """Run the demo; exit 1 if a check fails."""
    from py4DSTEM.demo import run_demo

    result = run_demo(Path(options.out), seed=options.seed)
    failed = [check for check in result.checks if not check.passed]
    if options.json:
        emit_json(
            {
                "seconds": result.seconds,
                "paths": list(map(str, result.paths)),
                "checks": [vars(check) for check in result.checks],
            }
        )
    else:
        for check in result.checks:
            mark = "ok  " if check.passed else "FAIL"
            emit(
                f"{mark} {check.name}: {check.value:.6g} "
                f"(truth {check.expected:.6g} ± {check.tolerance:.2g})"
            )
        for path in result.paths:
            emit(str(path))
    say(f"{len(result.checks) - len(failed)} of {len(result.checks)} checks passed "
        f"in {result.seconds:.1f} s")  # fmt: skip
    return Exit.SOME_FAILED if failed else Exit.OK
