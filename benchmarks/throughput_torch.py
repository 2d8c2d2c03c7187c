"""The PyTorch contenders of throughput.py; needs PyTorch and NumPy alone.

They prove that they compute what our network computes: equal scores, and equal losses over some
training steps, which equal gradients and updates alone give.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import throughput_protocol as protocol
import torch
from throughput_batches import (
    LEARNING,
    Reference,
    batch,
    refuse_differences,
    relative_difference,
)
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional as F
from torch_network import ResidualAttentionNet, load_weights


def channels_last(x: np.ndarray) -> Tensor:
    """An (N, C, H, W) array as a tensor in NHWC order."""
    return torch.from_numpy(x).contiguous(memory_format=torch.channels_last)


def precision(form: str) -> Any:
    """The context that a form's forward pass runs in."""
    return torch.autocast("cpu", torch.bfloat16) if form == "bfloat16" else nullcontext()


def network(reference: Reference) -> nn.Module:
    """The reference's network with its weights, channels_last."""
    try:
        net = ResidualAttentionNet(reference.spec)
    except ValueError as error:
        raise protocol.Obstacle(str(error)) from None
    load_weights(net, reference.weights)
    return net.to(memory_format=torch.channels_last)


class Training:
    """Forward pass with the loss, backward pass, NAG update.

    Args:
        net: what to train, in place.
        form: "float32" or "bfloat16".
        images: (N, C, H, W), channels_last.
        targets: (N,) class numbers.
    """

    def __init__(self, net: nn.Module, form: str, images: Tensor, targets: Tensor) -> None:
        self._net, self._form = net.train(), form
        self._images, self._targets = images, targets
        self._optimizer = torch.optim.SGD(
            net.parameters(),
            lr=LEARNING["learning_rate"],
            momentum=LEARNING["momentum"],
            weight_decay=LEARNING["wd"],
            nesterov=True,
            fused=True,
        )

    def __call__(self) -> Tensor:
        """A step; the mean loss before its update."""
        self._optimizer.zero_grad(set_to_none=True)
        with precision(self._form):
            scores = self._net(self._images)
        loss = F.cross_entropy(scores.float(), self._targets)
        loss.backward()
        self._optimizer.step()
        return loss.detach()


class Inference:
    """Scores of a batch.

    Args:
        net: the network, which is put into inference mode.
        form: "float32" or "bfloat16"; "folded-float32" or "folded-bfloat16" with the BatchNorms
            behind convolutions folded into them, and the weights themselves in that precision.
        images: (N, C, H, W), channels_last.
    """

    def __init__(self, net: nn.Module, form: str, images: Tensor) -> None:
        self._net, self._form, self._images = net.eval(), form, images
        self._dtype = torch.float32
        if form.startswith("folded-"):
            self._net = fuse(self._net)
        if form == "folded-bfloat16":
            self._dtype = torch.bfloat16
            self._net = self._net.to(self._dtype)

    def __call__(self, images: Tensor | None = None) -> Tensor:
        """Scores of the batch, or of others, in float32."""
        images = self._images if images is None else images
        with torch.inference_mode(), precision(self._form):
            return self._net(images.to(self._dtype)).float()


class TorchEngine(protocol.Engine):
    """An equal network written for PyTorch, eager, channels_last."""

    def build(self) -> None:
        """The network with the reference's weights, and a batch."""
        a = self.arguments
        reference = Reference(a.reference)
        net = network(reference)
        self._parameters = sum(p.numel() for p in net.parameters())
        images, targets = batch(a.batch_size, reference.picture_shape(a.size), reference.classes)
        self._shape = images.shape
        if a.job == "training":
            self.start = Training(net, a.form, channels_last(images), torch.from_numpy(targets))
        else:
            self.start = Inference(net, a.form, channels_last(images))

    def number(self, started: Tensor) -> float:
        """The loss, or the greatest score."""
        return started.abs().max().item()

    def describe(self) -> dict[str, Any]:
        """Versions, threads, parameters and shape."""
        return {
            "parameters": self._parameters,
            "shape": self._shape,
            "threads": torch.get_num_threads(),
            "versions": protocol.versions("torch", "numpy"),
        }

    def check(self) -> Mapping[str, float]:
        """Scores in float32 and as timed, and the losses of training."""
        reference = Reference(self.arguments.reference)
        images = channels_last(reference.images)
        scores = Inference(network(reference), "float32", images)().numpy()
        found = {"scores": relative_difference(scores, reference.scores)}
        if self.arguments.job == "training":
            targets = torch.from_numpy(reference.targets)
            step = Training(network(reference), "float32", images, targets)
            losses = np.array([step().item() for _ in reference.losses])
            found["losses"] = relative_difference(losses, reference.losses)
        else:
            own = self.start(images).numpy()
            found["scores as timed"] = relative_difference(own, reference.scores)
        refuse_differences(found)
        return found


ENGINE = TorchEngine
