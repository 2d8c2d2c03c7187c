"""Makes the networks of the PyTorch port for conversion_parity.py, in a Python that has PyTorch.

    python conversion_parity_torch.py CLONE FOLDER

writes NAME.npz, the state dict, and NAME.io.npz, pictures and scores, for each network.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import torch

NETWORKS = (
    ("ResidualAttentionModel_56", 224),
    ("ResidualAttentionModel_92", 224),
    ("ResidualAttentionModel_448input", 448),
    ("ResidualAttentionModel_92_32input", 32),
    ("ResidualAttentionModel_92_32input_update", 32),
)


def set_statistics(norm: torch.nn.BatchNorm2d, inputs: tuple[torch.Tensor]) -> None:
    """Running statistics around those of what a layer gets."""
    mean = inputs[0].mean((0, 2, 3))
    deviation = inputs[0].std((0, 2, 3)) + 0.3 * mean.abs() + 0.1
    norm.running_mean.copy_(mean + 0.3 * torch.randn_like(mean) * deviation)
    norm.running_var.copy_((torch.rand_like(mean) * 1.5 + 0.5) * deviation**2)


def randomise(net: torch.nn.Module, x: torch.Tensor) -> None:
    """Random arrays everywhere."""
    for name, parameter in net.named_parameters():
        if parameter.dim() >= 2:
            gain = 0.5 if "conv3" in name else 1
            parameter.normal_(0, gain * (2 / parameter[0].numel()) ** 0.5)
        elif name.endswith("weight"):
            parameter.uniform_(0.5, 1.5)
        else:
            parameter.normal_(0, 0.3)
    norms = [layer for layer in net.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(set_statistics) for norm in norms]
    net(x.clone())
    for hook in hooks:
        hook.remove()


def main(clone: str, folder: str) -> None:
    """Writes the files of each network."""
    sys.path.insert(0, clone)
    module = importlib.import_module("model.residual_attention_network")
    for name, side in NETWORKS:
        torch.manual_seed(0)
        net = getattr(module, name)().eval()
        x = torch.randn(2 if side == 32 else 1, 3, side, side)
        with torch.no_grad():
            randomise(net, x)
            scores = net(x.clone())
        state = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
        np.savez(Path(folder) / f"{name}.npz", **state)
        np.savez(Path(folder) / f"{name}.io.npz", x=x.numpy(), y=scores.numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
