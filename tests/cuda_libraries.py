"""Check that the wheels of the cu112 extra hold every library that the GPU build needs.

Run by `nox -s cuda_libraries` in an environment with that extra. It needs no GPU:
the driver's own libraries are the only ones that may be missing.
"""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

DRIVER = re.compile(r"libcuda\.so|libnvidia-")


def missing_libraries(site: Path) -> "set[str]":
    """The libraries which the loader does not find, also those needed by others."""
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, site.glob("nvidia/*/lib")))}
    files = [site / "mxnet" / "libmxnet.so", *site.glob("nvidia/*/lib/*.so*")]
    command = ["ldd", *map(str, files)]
    listing = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout
    return set(re.findall(r"(\S+) => not found", listing))


def import_error() -> str:
    """What `import gluon_ran` says here, without any help from LD_LIBRARY_PATH."""
    environment = {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"}
    command = [sys.executable, "-c", "import gluon_ran"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return result.stderr.strip().splitlines()[-1] if result.returncode else ""


def main() -> int:
    """Report both; 0 where nothing but the driver is missing."""
    missing = missing_libraries(Path(sysconfig.get_paths()["platlib"]))
    error = import_error()
    print("not found:", ", ".join(sorted(missing)) or "nothing")
    print("import gluon_ran:", error or "works")
    beyond = [name for name in missing if not DRIVER.match(name)]
    return 1 if beyond or (error and "no NVIDIA driver" not in error) else 0


if __name__ == "__main__":
    sys.exit(main())
