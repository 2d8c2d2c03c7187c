"""Checks in fresh environments: `nox` runs the tests on each Python, and ruff.

nox looks for python3.8 to python3.12 on the PATH. With pyenv, for example:
PATH="$(printf '%s:' ~/.pyenv/versions/3.{8,10,11,12}.*/bin)$PATH" nox
"""

from pathlib import Path

import nox

# Not virtualenv: its latest versions no longer make environments for Python 3.8.
nox.options.default_venv_backend = "venv"
nox.options.sessions = ["lint", "tests"]


@nox.session(python=["3.8", "3.10", "3.11", "3.12"])
def tests(session: nox.Session) -> None:
    """Install the package, not a link to the checkout, and run the tests."""
    session.install(".[cpu,test]")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff's checks and its formatting."""
    session.install("ruff>=0.17,<0.18")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def without_opencv(session: nox.Session) -> None:
    """The tests without cv2, which gluoncv installs and which needs the system's libGL."""
    session.install(".[cpu,test]")
    session.run("pip", "uninstall", "--yes", "opencv-python")
    session.run("pytest", *session.posargs)


@nox.session
def cuda_libraries(session: nox.Session) -> None:
    """The cu112 extra brings all libraries but the driver's (downloads 2.5 GB; needs no GPU)."""
    session.install(".[cu112]")
    session.run("python", "tests/cuda_libraries.py")


@nox.session
def sdist(session: nox.Session) -> None:
    """The source distribution has all that an installation from it needs."""
    session.install("build")
    folder = session.create_tmp()
    session.run("python", "-m", "build", "--sdist", "--outdir", folder)
    newest = max(Path(folder).glob("gluon_ran-*.tar.gz"), key=lambda path: path.stat().st_mtime)
    session.install(f"{newest}[cpu,test]")
    session.run("pytest", "tests/test_package.py")
