"""Independent NumPy float64 reference of the mixtures, the networks, the cell and the losses.

Written from the paper and the method's text, sharing no code with nem_tf: loops where they are clearer.
"""

import numpy as np


def bernoulli_probability(x, psi):
    """x, psi broadcast; product over the channels, kept as an axis of 1."""
    return np.prod(x * psi + (1 - x) * (1 - psi), axis=-1, keepdims=True)


def gaussian_density(x, psi, sigma):
    density = np.exp(-((x - psi) ** 2) / (2 * sigma**2)) / np.sqrt(2 * np.pi * sigma**2)
    return np.prod(density, axis=-1, keepdims=True)


def e_step(probability):
    """Responsibilities from P(x_i | psi_ik) [B, K, H, W, 1]."""
    p = probability + 1e-6
    return p / p.sum(1, keepdims=True)


def bernoulli_losses(x, psi, gamma):
    """(intra, inter) of one step, [B] each. x [B, H, W, C], psi [B, K, H, W, C], gamma [B, K, H, W, 1]."""
    x = x[:, None]
    clipped = np.clip(psi, 1e-6, 1 - 1e-6)
    cross_entropy = -(x * np.log(clipped) + (1 - x) * np.log(1 - clipped))
    kl = -np.log(np.clip(1 - psi, 1e-6, 1e6))
    axes = (1, 2, 3, 4)
    return (gamma * cross_entropy).sum(axes), ((1 - gamma) * kl).sum(axes)


def gaussian_losses(x, psi, gamma):
    axes = (1, 2, 3, 4)
    return (gamma * (psi - x[:, None]) ** 2 / 2).sum(axes), ((1 - gamma) * psi**2 / 2).sum(axes)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def elu(a):
    return np.where(a > 0, a, np.expm1(a))


def relu(a):
    return np.maximum(a, 0)


def layer_norm(x, scale, offset):
    axes = tuple(range(1, x.ndim))
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-12) * scale + offset


def conv(x, kernel, bias, stride):
    """'SAME' cross-correlation [B, H, W, C] with [h, w, C, F]."""
    size = kernel.shape[0]
    out = -(-x.shape[1] // stride)
    total = max((out - 1) * stride + size - x.shape[1], 0)
    x = np.pad(x, ((0, 0), (total // 2, total - total // 2), (total // 2, total - total // 2), (0, 0)))
    result = np.empty((len(x), out, out, kernel.shape[-1]))
    for i in range(out):
        for j in range(out):
            patch = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
            result[:, i, j] = np.tensordot(patch, kernel, 3)
    return result + bias


def upsample(x):
    return x.repeat(2, axis=1).repeat(2, axis=2)


def standardise(x):
    """Per image; a constant one becomes 0."""
    axes = tuple(range(1, x.ndim))
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-12)


class ConvNetwork:
    """The networks of the flying experiments. Weights come as a flat list in the order of the layers."""

    def __init__(self, weights, halvings, first, last):
        self.weights = [np.asarray(w, np.float64) for w in weights]
        self.halvings, self.first, self.last = halvings, first, last

    def __call__(self, masked, h):
        """masked [N, H, W, 1], h [N, M] -> psi [N, H, W, 1], h'."""
        w = iter(self.weights)

        def take(n):
            return [next(w) for _ in range(n)]

        x = self.first(masked)
        for _ in range(self.halvings):
            kernel, bias, scale, offset = take(4)
            x = elu(layer_norm(conv(x, kernel, bias, 2), scale, offset))
        x = x.reshape(len(x), -1)
        kernel, bias, scale, offset = take(4)
        x = elu(layer_norm(x @ kernel + bias, scale, offset))
        kernel, bias, scale, offset = take(4)
        a = np.concatenate([x, h], 1) @ kernel + bias
        h = sigmoid(a)
        x = sigmoid(layer_norm(a, scale, offset))
        for _ in range(2):
            kernel, bias, scale, offset = take(4)
            x = relu(layer_norm(x @ kernel + bias, scale, offset))
        side = masked.shape[1] // 2**self.halvings
        x = x.reshape(len(x), side, side, -1)
        for _ in range(self.halvings - 1):
            kernel, bias, scale, offset = take(4)
            x = relu(layer_norm(conv(upsample(x), kernel, bias, 1), scale, offset))
        kernel, bias = take(2)
        return self.last(conv(upsample(x), kernel, bias, 1)), h


def flying_shapes(weights):
    return ConvNetwork(weights, 2, lambda x: x, sigmoid)


def flying_mnist(weights):
    return ConvNetwork(weights, 3, standardise, lambda x: x)


def static_rnn_em(weights):
    """Masked differences and state, 250 sigmoids, dense sigmoid."""
    core, core_bias, out, out_bias = (np.asarray(w, np.float64) for w in weights)

    def network(masked, h):
        h = sigmoid(np.concatenate([masked.reshape(len(masked), -1), h], 1) @ core + core_bias)
        return sigmoid(h @ out + out_bias).reshape(masked.shape), h

    return network


def n_em(kernel, eta):
    """The M-step of N-EM as a network: theta takes the place of h."""

    def network(masked, theta):
        slope = sigmoid(theta) * (1 - sigmoid(theta))
        theta = theta + eta * slope * (masked.reshape(len(masked), -1) @ kernel)
        return sigmoid(sigmoid(theta) @ kernel.T).reshape(masked.shape), theta

    return network


def em(network, noisy, target, gamma, units, probability=bernoulli_probability):
    """T steps. noisy, target [B, T, H, W, C], gamma [B, K, H, W, 1] -> psi, gamma, theta, with a T axis after B."""
    batch, steps, height, width, channels = noisy.shape
    k = gamma.shape[1]
    psi, h = np.zeros((batch, k, height, width, channels)), np.zeros((batch * k, units))
    history = []
    for t in range(steps):
        delta = noisy[:, t, None] - psi
        out, h = network((gamma * delta).reshape(-1, height, width, channels), h)
        psi = out.reshape(batch, k, height, width, channels)
        gamma = e_step(probability(target[:, t, None], psi))
        history.append((psi, gamma, h.reshape(batch, k, units)))
    return [np.stack(values, 1) for values in zip(*history)]
