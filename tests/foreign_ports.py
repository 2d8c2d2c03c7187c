"""Forward passes of other implementations, written from their graphs and driven by their names.

Arrays are random and are made when a pass first asks for them by name. BatchNorm's statistics are
made around those of the layer's input, so that no mask is all near 0 or 1 and every layer counts.
"""

import numpy as np

import gluon_ran  # noqa: F401

from mxnet import nd

WIDTHS = (16, 32, 64, 128)
EPSILON = 1e-5


class Foreign(dict):
    """Named arrays, and the layers that read them.

    `scale` and `shift` are the implementation's names of BatchNorm's gamma and beta.
    """

    def __init__(self, scale="gamma", shift="beta", seed=0):
        super().__init__()
        self.scale, self.shift = scale, shift
        self.rng = np.random.default_rng(seed)

    def array(self, name, make):
        if name not in self:
            self[name] = np.asarray(make(), dtype="float32")
        return nd.array(self[name])

    def weight(self, name, shape):
        # A unit that adds half as much as it passes on leaves rounding errors small.
        gain = 0.5 if name.endswith("conv3.weight") else 1
        deviation = gain * (2 / np.prod(shape[1:])) ** 0.5
        return self.array(name, lambda: self.rng.normal(0, deviation, shape))

    def conv(self, x, name, channels, kernel, stride=1):
        weight = self.weight(f"{name}.weight", (channels, x.shape[1], kernel, kernel))
        return nd.Convolution(
            x,
            weight,
            kernel=(kernel, kernel),
            stride=(stride, stride),
            pad=(kernel // 2, kernel // 2),
            num_filter=channels,
            no_bias=True,
        )

    def norm_relu(self, x, name):
        channels = x.shape[1]
        mean, deviation = statistics(x.asnumpy())
        normal, uniform = self.rng.normal, self.rng.uniform
        gamma = self.array(f"{name}.{self.scale}", lambda: uniform(0.5, 1.5, channels))
        beta = self.array(f"{name}.{self.shift}", lambda: normal(0, 0.3, channels))
        mean = self.array(
            f"{name}.running_mean", lambda: mean + normal(0, 0.3, channels) * deviation
        )
        var = self.array(f"{name}.running_var", lambda: uniform(0.5, 2, channels) * deviation**2)
        if self.scale == "weight":
            self.array(f"{name}.num_batches_tracked", lambda: 7)
        gamma, beta, mean, var = (a.reshape((1, channels, 1, 1)) for a in (gamma, beta, mean, var))
        return nd.relu((x - mean) / nd.sqrt(var + EPSILON) * gamma + beta)

    def dense(self, x, name, classes):
        weight = self.weight(f"{name}.weight", (classes, x.shape[1]))
        bias = self.array(f"{name}.bias", lambda: self.rng.normal(0, 1, classes))
        return nd.dot(x, weight, transpose_b=True) + bias

    def unit(self, x, name, channels, stride=1, shortcut="conv4", always=False):
        y = self.norm_relu(x, f"{name}.bn1")
        same = x.shape[1] == channels and stride == 1
        if same and always:
            self.weight(f"{name}.{shortcut}.weight", (channels, channels, 1, 1))
        beside = x if same else self.conv(y, f"{name}.{shortcut}", channels, 1, stride)
        y = self.conv(y, f"{name}.conv1", channels // 4, 1)
        y = self.conv(self.norm_relu(y, f"{name}.bn2"), f"{name}.conv2", channels // 4, 3, stride)
        return self.conv(self.norm_relu(y, f"{name}.bn3"), f"{name}.conv3", channels, 1) + beside

    def head(self, x, name):
        y = self.conv(self.norm_relu(x, f"{name}.0"), f"{name}.2", x.shape[1], 1)
        return nd.sigmoid(self.conv(self.norm_relu(y, f"{name}.3"), f"{name}.5", x.shape[1], 1))


def statistics(values):
    """Mean and a deviation of each channel.

    Some of the mean is in the deviation: rounding grows where a channel hardly varies around it.
    """
    mean = values.mean((0, 2, 3))
    return mean, values.std((0, 2, 3)) + 0.3 * abs(mean) + 0.1


def pool(x, kernel=3, stride=2, pad=1):
    return nd.Pooling(x, kernel=(kernel, kernel), stride=(stride, stride), pad=(pad, pad))


def resize(x, like):
    """Bilinear interpolation, corners on corners, to the height and width of `like`."""
    values = x.asnumpy()
    for axis in (2, 3):
        source, target = values.shape[axis], like.shape[axis]
        place = np.linspace(0, source - 1, target)
        low = np.minimum(np.floor(place).astype(int), max(source - 2, 0))
        high = np.minimum(low + 1, source - 1)
        share = (place - low).reshape((-1, 1) if axis == 2 else (-1,))
        values = values.take(low, axis) * (1 - share) + values.take(high, axis) * share
    return nd.array(values, dtype="float32")


def embedding(x):
    return x.mean(axis=(2, 3))


def haoxintong(x, modules=(1, 1, 1), ptr=(1, 2, 1), imagenet=False, classes=10, **kwargs):
    """The earlier Gluon port: numbered through, nothing added to the mask; (scores, arrays)."""
    f, (p, t, r) = Foreign(**kwargs), ptr

    def unit(x, name, channels=None, stride=1):
        return f.unit(x, name, channels or x.shape[1], stride, "downsample")

    def units(x, name, count):
        for k in range(count):
            x = unit(x, f"{name}.{k}")
        return x

    def module(x, name, stage):
        x = units(x, f"{name}.pre", p)
        mask = f"{name}.mask_branch"
        y, downs, planes = x, [], [x]
        for n in range(stage, 4):
            y = units(pool(y), f"{mask}.down_res_unit_{n}", r)
            downs.append(y)
            planes.append(y)
        for n in (3, 2, 1)[: 4 - stage]:
            if n < 3:
                y = y + unit(downs[n - stage], f"{mask}.skip_connection_{n}")
            y = resize(units(y, f"{mask}.up_res_unit_{n}", r), planes[n - stage])
        y = (1 + f.head(y, f"{mask}.output")) * units(x, f"{name}.trunk_branch", t)
        return units(y, f"{name}.post", p)

    x = f.conv(x, "features.0", WIDTHS[0] // 4, 7 if imagenet else 3, 2 if imagenet else 1)
    x = f.norm_relu(x, "features.1")
    x, n = (pool(x), 4) if imagenet else (x, 3)
    for stage, channels in enumerate(WIDTHS, 1):
        x, n = unit(x, f"features.{n}", channels, 1 if stage == 1 else 2), n + 1
        for _ in range(modules[stage - 1] if stage < 4 else 0):
            x, n = module(x, f"features.{n}", stage), n + 1
    for _ in range(2):
        x, n = unit(x, f"features.{n}"), n + 1
    return f.dense(embedding(f.norm_relu(x, f"features.{n}")), "output", classes), f


# The PyTorch port's networks: stem, width of the first stage's module names, and what follows.
TENGSHAOFENG = {
    "ResidualAttentionModel_56": ("imagenet", (3, 2, 1), (1, 1, 1)),
    "ResidualAttentionModel_92": ("imagenet", (3, 2, 1), (1, 2, 3)),
    "ResidualAttentionModel_448input": ("imagenet", (4, 3, 2, 1), (1, 1, 2, 3)),
    "ResidualAttentionModel_92_32input": ("compact", (2, 1, 0), (1, 2, 3)),
    "ResidualAttentionModel_92_32input_update": ("cifar", (2, 1, 0), (1, 2, 3)),
}


def tengshaofeng(x, network, classes=10, **kwargs):
    """The PyTorch port: adds features to its masks; (scores, state dict)."""
    f = Foreign("weight", "bias", **kwargs)
    stem, depths, modules = TENGSHAOFENG[network]

    def unit(x, name, channels=None, stride=1):
        return f.unit(x, name, channels or x.shape[1], stride, always=True)

    def two(x, name):
        return unit(unit(x, f"{name}.0"), f"{name}.1")

    def module(x, name, depth):
        x = unit(x, f"{name}.first_residual_blocks")
        trunk = two(x, f"{name}.trunk_branches")
        y, downs = x, []
        numbered = stem == "imagenet"
        for n in range(1, depth):
            y = unit(pool(y), f"{name}." + (f"softmax{n}_blocks" if numbered else down(n)))
            downs.append(y)
        y = pool(y) if depth else y
        y = two(y, f"{name}." + (f"softmax{depth}_blocks" if numbered else "middle_2r_blocks"))
        for n in range(depth - 1, 0, -1):
            wide = downs[n - 1]
            y = resize(y, wide) + wide + unit(wide, f"{name}.skip{n}_connection_residual_block")
            y = unit(y, f"{name}." + (f"softmax{2 * depth - n}_blocks" if numbered else up(n)))
        if depth:
            y = resize(y, trunk) + trunk
        head = f"softmax{2 * depth}_blocks" if numbered else "conv1_1_blocks"
        return unit((1 + f.head(y, f"{name}.{head}")) * trunk, f"{name}.last_blocks")

    def down(n):
        return f"down_residual_blocks{n}"

    def up(n):
        return f"up_residual_blocks{n}"

    kernel, stride = {"imagenet": (7, 2), "compact": (5, 1), "cifar": (3, 1)}[stem]
    x = f.norm_relu(f.conv(x, "conv1.0", WIDTHS[0] // 4, kernel, stride), "conv1.1")
    x = pool(x) if stem == "imagenet" else pool(x, 2, 2, 0) if stem == "compact" else x
    n = 0 if len(depths) == 4 else 1
    widths = (8,) * (1 - n) + WIDTHS
    for index, (depth, count) in enumerate(zip(depths, modules)):
        x = unit(x, f"residual_block{n}", widths[index], 2 if index else 1)
        for k in range(count):
            x = module(x, f"attention_module{n}" + (f"_{k + 1}" if k else ""), depth)
        n += 1
    x = unit(x, f"residual_block{n}", widths[-1], 2 if stem == "imagenet" else 1)
    x = unit(unit(x, f"residual_block{n + 1}"), f"residual_block{n + 2}")
    return f.dense(embedding(f.norm_relu(x, "mpool2.0")), "fc", classes), f
