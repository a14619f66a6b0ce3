"""The XML of an EMPAD scan, beside its raw file."""

import numpy as np
from harness import Reader, Target, fuzz, made_by, tests_io


def raw() -> bytes:
    frames = np.zeros((6, 128, 128), np.float32)
    return made_by(lambda p: tests_io().write_empad(p, frames))


def make() -> Target:
    return Reader("empad", "a.xml", {"scan_x3_y2.raw": raw()})


def seeds() -> list[bytes]:
    synthetic, found = tests_io(), []
    for newer in (False, True):
        size = "" if newer else "<pix_x>3</pix_x><pix_y>2</pix_y>"
        field = synthetic.NEW_FIELD if newer else synthetic.OLD_FIELD
        text = synthetic.EMPAD_XML.format(size=size, raw="scan_x3_y2.raw", nx=3, ny=2, field=field)
        found.append(text.encode())
    return found


if __name__ == "__main__":
    fuzz(make, seeds, "py4DSTEM.io")
