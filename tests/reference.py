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
    heights, widths = (-(-side // stride) for side in x.shape[1:3])
    total = [max((out - 1) * stride + size - side, 0) for out, side in zip((heights, widths), x.shape[1:3])]
    x = np.pad(x, ((0, 0), *((n // 2, n - n // 2) for n in total), (0, 0)))
    result = np.empty((len(x), heights, widths, kernel.shape[-1]))
    for i in range(heights):
        for j in range(widths):
            patch = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
            result[:, i, j] = np.tensordot(patch, kernel, 3)
    return result + bias


def upsample(x, times=2):
    return x.repeat(times, axis=1).repeat(times, axis=2)


def nearest(x, height, width):
    """[B, H, W, C] -> [B, height, width, C], pixel by pixel."""
    y = np.empty((len(x), height, width, x.shape[-1]))
    for i, j in np.ndindex(height, width):
        y[:, i, j] = x[:, int(i * x.shape[1] / height), int(j * x.shape[2] / width)]
    return y


def standardise(x):
    """Per image; a constant one becomes 0."""
    axes = tuple(range(1, x.ndim))
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-12)


def taker(weights):
    """A function that takes the next n of a flat list of weights."""
    left = iter([np.asarray(w, np.float64) for w in weights])
    return lambda n: [next(left) for _ in range(n)]


def block(x, take, activation):
    kernel, bias, scale, offset = take(4)
    return activation(layer_norm(x @ kernel + bias, scale, offset))


def sigmoid_core(x, h, take):
    """[N, D], [N, M] -> output and state [N, M]: layer norm on the output alone."""
    kernel, bias, scale, offset = take(4)
    a = np.concatenate([x, h], 1) @ kernel + bias
    return sigmoid(layer_norm(a, scale, offset)), sigmoid(a)


def lstm_core(x, state, take):
    """[N, D], [N, 2M] -> output [N, M], state [N, 2M]: TensorFlow 1's LSTM with layer norm."""
    c, h = np.split(state, 2, axis=1)
    (kernel,) = take(1)
    gates = np.split(np.concatenate([x, h], 1) @ kernel, 4, axis=1)
    i, j, f, o = (layer_norm(gate, *take(2)) for gate in gates)
    c = layer_norm(c * sigmoid(f + 1) + sigmoid(i) * np.tanh(j), *take(2))
    h = np.tanh(c) * sigmoid(o)
    return h, np.concatenate([c, h], 1)


def relational(weights, slots, theta, use_attention=True, action=None):
    """R-NEM's recurrent unit on the K components of ONE image, pair by pair.

    Arguments:
        weights: of action (if there is one), embedding, pair, effect, attention (if there is any), update, norm.
        slots, theta: [K, D], [K, M].
        action: [A] or None.

    Returns output and theta' [K, M], attention [K, K] with 0 on the diagonal, and the summed effects [K, M].
    """
    take = taker(weights)
    act = [] if action is None else [block(action[None], take, relu)[0]]
    embedding, pair, effect = take(4), take(4), take(4)
    hidden, last = (take(4), take(2)) if use_attention else (None, None)
    kernel, bias, scale, offset = take(4)
    k, units = len(theta), theta.shape[1]
    z = [block(np.concatenate([row, *act])[None], taker(embedding), relu)[0] for row in theta]
    attention, effects, u = np.zeros((k, k)), np.zeros((k, units)), np.zeros((k, units))
    for focus in range(k):
        for context in range(k):
            if context == focus:
                continue
            c = block(np.concatenate([z[focus], z[context]])[None], taker(pair), relu)
            if use_attention:
                logit = block(c, taker(hidden), np.tanh) @ last[0] + last[1]
                attention[focus, context] = sigmoid(logit.item())
            weight = attention[focus, context] if use_attention else 1
            effects[focus] += weight * block(c, taker(effect), relu)[0]
        u[focus] = np.concatenate([z[focus], effects[focus], slots[focus], *act]) @ kernel + bias
    return sigmoid(layer_norm(u, scale, offset)), sigmoid(u), attention, effects


def relational_core(k, weights_of_core, **options):
    """`relational` on the B*K rows of B images, in the place of `sigmoid_core`."""

    def core(x, h, take):
        weights = take(weights_of_core)
        images = [relational(weights, x[i : i + k], h[i : i + k], **options) for i in range(0, len(x), k)]
        return tuple(np.concatenate(part) for part in list(zip(*images))[:2])

    return core


class ConvNetwork:
    """The convolutional networks. Weights come as a flat list in the order of the layers."""

    def __init__(self, weights, halvings, first, last, core=sigmoid_core):
        self.weights = weights
        self.halvings, self.first, self.last, self.core = halvings, first, last, core

    def __call__(self, masked, h):
        """masked [N, H, W, C], h [N, M] -> psi [N, H, W, C], h'."""
        take = taker(self.weights)
        x = self.first(masked)
        sizes = []  # of the maps on the way down, to which those on the way up are cut
        for _ in range(self.halvings):
            kernel, bias, scale, offset = take(4)
            sizes.append(x.shape[1:3])
            x = elu(layer_norm(conv(x, kernel, bias, 2), scale, offset))
        small = x.shape[1:]
        x = block(x.reshape(len(x), -1), take, elu)
        x, h = self.core(x, h, take)
        for _ in range(2):
            x = block(x, take, relu)
        x = x.reshape(len(x), *small)
        while len(sizes) > 1:
            kernel, bias, scale, offset = take(4)
            height, width = sizes.pop()
            x = relu(layer_norm(conv(upsample(x), kernel, bias, 1)[:, :height, :width], scale, offset))
        kernel, bias = take(2)
        height, width = sizes.pop()
        return self.last(conv(upsample(x), kernel, bias, 1)[:, :height, :width]), h


def flying_shapes(weights):
    return ConvNetwork(weights, 2, lambda x: x, sigmoid)


def flying_mnist(weights):
    return ConvNetwork(weights, 3, standardise, lambda x: x)


def space_invaders(weights, core):
    """Of Space Invaders: a convolution by 4, one by 2, and back through nearest neighbours."""

    def network(masked, h):
        take = taker(weights)
        height, width = masked.shape[1:3]
        x, sizes = masked, []
        for stride in (4, 2):
            kernel, bias, scale, offset = take(4)
            x = elu(layer_norm(conv(x, kernel, bias, stride), scale, offset))
            sizes.append(x.shape[1:3])
        x = block(x.reshape(len(x), -1), take, elu)
        x, h = core(x, h, take)
        for _ in range(2):
            x = block(x, take, relu)
        quarter = sizes[0]
        x = x.reshape(len(x), *(max(size // 2, 1) for size in quarter), 32)
        kernel, bias, scale, offset = take(4)
        x = relu(layer_norm(conv(nearest(x, *quarter), kernel, bias, 1), scale, offset))
        kernel, bias = take(2)
        return sigmoid(conv(upsample(x, 4), kernel, bias, 1)[:, :height, :width]), h

    return network


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


def soft_rollout(network, noisy, target, gamma, units, seen):
    """R-NEM's roll-out of binary frames, without noise: `seen` steps as ever, then steps that are fed sum_k gamma psi.

    Arguments as of `em`, whose results of every step these are; and gamma against the true target of every step.
    """
    batch, steps, height, width, channels = target.shape
    k = gamma.shape[1]
    psi, h = np.zeros((batch, k, height, width, channels)), np.zeros((batch * k, units))
    history = []
    for t in range(steps):
        frame = noisy[:, t] if t < seen else (gamma * psi).sum(1)
        out, h = network((gamma * (frame[:, None] - psi)).reshape(-1, height, width, channels), h)
        psi = out.reshape(batch, k, height, width, channels)
        true = e_step(bernoulli_probability(target[:, t, None], psi))
        own = (psi.max(1, keepdims=True) > 0.1).astype(float)
        gamma = true if t < seen else e_step(bernoulli_probability(own, psi))
        history.append((psi, gamma, h.reshape(batch, k, units), true, frame))
    return [np.stack(values, 1) for values in zip(*history)]


def dense_gradients(weights, noisy, target, gamma, *, step_weights, inter_weight, gamma_gradient):
    """Losses [B, T] of RNN-EM with three dense layers on binary frames, and the gradient of what training minimises.

    Encoder tanh(m W + b), the paper's core with its layer norm, decoder sigmoid(u W + b). The gradient goes back
    through time by hand.

    Arguments:
        weights: kernel and bias of the encoder; kernel, bias, scale and offset of the core; kernel and bias of the
            decoder.
        noisy, target: [B, T, N], the N pixels of a frame.
        gamma: [B, K, N], at the start.
    """
    encoder, encoder_bias, core, core_bias, scale, offset, decoder, decoder_bias = weights
    batch, steps = noisy.shape[:2]
    features = encoder.shape[1]
    psi, h = np.zeros_like(gamma), np.zeros((*gamma.shape[:2], len(core_bias)))
    losses, tape = [], []
    for t in range(steps):
        x = target[:, t, None]
        delta = noisy[:, t, None] - psi
        masked, gamma_before = gamma * delta, gamma
        e = np.tanh(masked @ encoder + encoder_bias)
        both = np.concatenate([e, h], -1)
        a = both @ core + core_bias
        h = sigmoid(a)
        centred = a - a.mean(-1, keepdims=True)
        inverse = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        u = sigmoid(inverse * centred * scale + offset)
        psi = sigmoid(u @ decoder + decoder_bias)
        p = x * psi + (1 - x) * (1 - psi) + 1e-6
        p_sum = p.sum(1, keepdims=True)
        gamma = p / p_sum
        entropy, kl = -(x * np.log(psi) + (1 - x) * np.log(1 - psi)), -np.log(1 - psi)
        losses.append((gamma * entropy + inter_weight * (1 - gamma) * kl).sum((1, 2)))
        tape.append((x, delta, masked, gamma_before, e, both, h, inverse, inverse * centred, u, psi, p_sum, gamma,
                     entropy - inter_weight * kl))  # fmt: skip

    gradients = [np.zeros_like(w) for w in weights]
    d_psi, d_h, d_gamma = np.zeros_like(psi), np.zeros_like(h), np.zeros_like(gamma)
    for t in reversed(range(steps)):
        x, delta, masked, gamma_before, e, both, h, inverse, normal, u, psi, p_sum, gamma, by_gamma = tape[t]
        weight = step_weights[t] / batch
        d_psi = d_psi + weight * (gamma * (psi - x) / (psi * (1 - psi)) + inter_weight * (1 - gamma) / (1 - psi))
        if gamma_gradient:
            d_gamma = d_gamma + weight * by_gamma
            d_psi = d_psi + (d_gamma - (d_gamma * gamma).sum(1, keepdims=True)) / p_sum * (2 * x - 1)
        d_out = d_psi * psi * (1 - psi)
        d_normal = d_out @ decoder.T * u * (1 - u)
        d = d_normal * scale
        d_a = inverse * (d - d.mean(-1, keepdims=True) - normal * (d * normal).mean(-1, keepdims=True))
        d_a += d_h * h * (1 - h)
        d_e, d_h = np.split(d_a @ core.T, [features], axis=-1)
        d_in = d_e * (1 - e**2)
        layers = ((masked, d_in), (both, d_a), (normal, d_normal), (u, d_out))
        (dw0, dw1, _, dw2), (db0, db1, db_norm, db2) = zip(
            *((np.einsum("bki,bkj->ij", ins, outs), outs.sum((0, 1))) for ins, outs in layers)
        )
        d_scale = (d_normal * normal).sum((0, 1))
        for gradient, part in zip(gradients, (dw0, db0, dw1, db1, d_scale, db_norm, dw2, db2)):
            gradient += part
        d_masked = d_in @ encoder.T
        d_psi, d_gamma = -gamma_before * d_masked, delta * d_masked
    return np.stack(losses, 1), gradients


class Adam:
    """Adam after clipping by global norm; epsilon is added to the root of the running square, as TensorFlow has it."""

    def __init__(self, weights, rate, clip_norm, epsilon=1e-8):
        self.weights = [np.array(w, np.float64) for w in weights]
        self.moments = [(np.zeros(w.shape), np.zeros(w.shape)) for w in weights]
        self.rate, self.clip_norm, self.epsilon, self.steps = rate, clip_norm, epsilon, 0

    def step(self, gradients):
        """Takes a step at rate(number of the steps before); returns the norm before clipping."""
        norm = np.sqrt(sum((g**2).sum() for g in gradients))
        factor = min(1, self.clip_norm / norm) if self.clip_norm else 1
        rate, self.steps = self.rate(self.steps), self.steps + 1
        rate *= np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        for weight, (mean, square), gradient in zip(self.weights, self.moments, gradients):
            mean += 0.1 * (factor * gradient - mean)
            square += 0.001 * ((factor * gradient) ** 2 - square)
            weight -= rate * mean / (np.sqrt(square) + self.epsilon)
        return norm
