"""The package's metadata; pyproject.toml holds the tools' settings only."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def version() -> str:
    """The version, whose one home is gluon_ran/__init__.py."""
    text = (ROOT / "gluon_ran" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE).group(1)


# The major numbers are those of the library names in mxnet-cu112's libmxnet.so
# (libcudnn.so.8, libcufft.so.10, ...); `nox -s cuda_libraries` checks them.
CUDA_11 = [
    "nvidia-cublas-cu11==11.*",
    "nvidia-cuda-nvrtc-cu11==11.*",
    "nvidia-cuda-runtime-cu11==11.*",
    "nvidia-cudnn-cu11==8.*",
    "nvidia-cufft-cu11==10.*",
    "nvidia-curand-cu11==10.*",
    "nvidia-cusolver-cu11==11.*",
    "nvidia-nccl-cu11==2.*",
    "nvidia-nvtx-cu11==11.*",
]

# 1.17 needs protobuf 4, which mxboard can't use.
ONNX = ["onnx>=1.14,<1.17", "onnxruntime>=1.14"]

setup(
    name="gluon_ran",
    version=version(),
    description="Residual Attention Networks for Apache MXNet Gluon",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["gluon_ran", "gluon_ran.*"]),
    # Has `pip install -e` put this folder on the path. Else, where Python starts in the folder
    # above, a clone called gluon_ran is found before the package in it.
    package_dir={"": "."},
    package_data={"gluon_ran": ["py.typed", "weights/*.params", "weights/*.json"]},
    entry_points={"console_scripts": ["gluon-ran = gluon_ran.commands:main"]},
    python_requires=">=3.8,<3.13",
    install_requires=[
        # MXNet 1.9.1 was written against NumPy 1; 1.23 is the last that still has numpy.bool,
        # and Python 3.12 has none older than 1.26.
        'numpy>=1.23,<1.24; python_version < "3.12"',
        'numpy>=1.26,<2; python_version >= "3.12"',
        # mxboard's generated code fails to import with protobuf 4.
        "protobuf>=3.20.2,<3.21",
        # mxnet, gluoncv and mxboard import distutils, which left Python with 3.12.
        'setuptools; python_version >= "3.12"',
        "gluoncv>=0.10.5",
        "matplotlib>=3.6",
        "mxboard>=0.1.0",
        "Pillow>=8",
        # Of gluoncv. pandas 3 needs a later NumPy, and pip would try each of its versions.
        "pandas<3",
        # mxnet reads scipy.sparse.csr, which goes with SciPy 2.
        "scipy<2",
        "scikit-learn",
        "tqdm",
    ],
    extras_require={
        "cpu": ["mxnet==1.9.1"],
        "cu112": ["mxnet-cu112==1.9.1", *CUDA_11],
        "onnx": ONNX,
        # Built against the MXNet that is there, so not by a plain pip: see the README.
        "horovod": ["horovod==0.28.1"],
        "test": [*ONNX, "packaging", "pytest>=8", "pytest-xdist>=3.6", "ruff>=0.17,<0.18"],
    },
)
