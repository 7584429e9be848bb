"""RNN-EM (Greff, van Steenkiste, Schmidhuber, "Neural Expectation Maximization", NIPS 2017) in plain PyTorch.

    python torch_rnn_em.py --check golden.npz             # known weights -> known outputs
    python torch_rnn_em.py --bench --k 3 --batch 16 64    # time of a training step

Axes: B batch, T EM steps, K components, C H W image. SPDX-License-Identifier: MIT
"""

import argparse
import gc
import itertools
import json
import math
import re
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

# image size, encoder channels, recurrent units, decoder channels, binary (Bernoulli) or grey (Gaussian), lambda
NETWORKS = {
    "flying_shapes": (28, (32, 64), 100, (64, 32), True, 1.0),
    "flying_mnist": (24, (32, 64, 128), 250, (128, 64, 32), False, 0.2),
}
LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
MODES = {  # what torch.compile is applied to and its mode; "cudagraph": the whole training step captured and replayed
    "eager": (None, None),
    "compile": ("forward", "default"),
    "compile-step": ("em_step", "default"),
    "autotune": ("forward", "max-autotune-no-cudagraphs"),
    "reduce-overhead": ("forward", "reduce-overhead"),
    "cudagraph-eager": (None, None),
    "cudagraph": ("forward", "default"),
    "cudagraph-step": ("em_step", "default"),
}


class State(NamedTuple):
    h: Tensor  # [B*K, M], of the recurrent core
    psi: Tensor  # [B, K, C, H, W], predicted means
    gamma: Tensor  # [B, K, 1, H, W], responsibilities, sum to 1 over K


def block(linear: nn.Module, activation: nn.Module) -> list[nn.Module]:
    """Linear -> layer norm over all axes but the batch, with a scale and an offset per channel -> activation."""
    if isinstance(linear, nn.Conv2d):
        return [linear, nn.GroupNorm(1, linear.out_channels, eps=1e-12), activation]
    return [linear, nn.LayerNorm(linear.out_features, eps=1e-12), activation]


class RNNEM(nn.Module):
    """RNN-EM unrolled over T steps; the network is shared by the K components and all steps."""

    def __init__(self, network: str = "flying_shapes", k: int = 3, layout: str = "nchw"):
        super().__init__()
        self.size, down, self.units, up, self.binary, self.inter_weight = NETWORKS[network]
        self.k, self.layout = k, LAYOUTS[layout]
        self.small = (self.size >> len(down), self.size >> len(down), down[-1])  # H, W, C between encoder and decoder
        features = math.prod(self.small)
        maps = [block(nn.Conv2d(i, o, 4, stride=2, padding=1), nn.ELU()) for i, o in zip((1, *down), down)]
        self.encoder_maps = nn.Sequential(*itertools.chain(*maps))
        self.encoder = nn.Sequential(*block(nn.Linear(features, 512), nn.ELU()))
        self.core = nn.Linear(512 + self.units, self.units)
        self.core_norm = nn.LayerNorm(self.units, eps=1e-12)
        dense = [block(nn.Linear(self.units, 512), nn.ReLU()), block(nn.Linear(512, features), nn.ReLU())]
        self.decoder = nn.Sequential(*itertools.chain(*dense))
        maps = []
        for i, o in zip(up, (*up[1:], 1)):
            convolution = nn.Conv2d(i, o, 4, padding="same")  # pads 1 before and 2 after
            maps += [nn.Upsample(scale_factor=2), *(block(convolution, nn.ReLU()) if o > 1 else [convolution])]
        self.decoder_maps = nn.Sequential(*maps)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        self.to(memory_format=self.layout)

    def m_step(self, masked: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """(masked differences [B*K, C, H, W], h [B*K, M]) -> (psi' [B*K, C, H, W], h' [B*K, M])."""
        if not self.binary:
            masked = nn.functional.group_norm(masked, 1, eps=1e-12)  # every image to mean 0 and variance 1
        x = self.encoder_maps(masked.contiguous(memory_format=self.layout))
        x = self.encoder(x.permute(0, 2, 3, 1).flatten(1))
        a = self.core(torch.cat([x, h], dim=1)).float()
        x = self.decoder(torch.sigmoid(self.core_norm(a)))
        x = x.unflatten(1, self.small).permute(0, 3, 1, 2)
        x = self.decoder_maps(x.contiguous(memory_format=self.layout)).float()
        return torch.sigmoid(x) if self.binary else x, torch.sigmoid(a)

    def pixel_terms(self, x: Tensor, psi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """P(x | psi) for the E-step; -log P(x | psi) and KL(prior || P(. | psi)) as the loss counts them."""
        if self.binary:
            p = torch.where(x > 0.5, psi, 1 - psi)
            return p, -p.clamp(1e-6, 1 - 1e-6).log(), -(1 - psi).clamp(1e-6, 1e6).log()
        square = (x - psi).square()
        return torch.exp(-8 * square) * (4 / math.sqrt(2 * math.pi)), square / 2, psi.square() / 2  # sigma 1/4; 1; 1

    def em_step(self, noisy: Tensor, target: Tensor, state: State) -> tuple[State, Tensor, Tensor]:
        """Noisy frame, clean next frame [B, C, H, W] and state -> new state, intra and inter loss (batch means)."""
        masked = state.gamma * (noisy[:, None] - state.psi)
        psi, h = self.m_step(masked.flatten(0, 1), state.h)
        psi = psi.view(masked.shape)
        p, neg_log_p, kl = self.pixel_terms(target[:, None], psi)
        p = p.detach() + 1e-6
        gamma = p / p.sum(dim=1, keepdim=True)
        intra = (gamma * neg_log_p).sum() / len(target)
        inter = ((1 - gamma) * kl).sum() / len(target)
        return State(h, psi, gamma), intra, inter

    def forward(self, noisy: Tensor, target: Tensor, state: State) -> Tensor:
        """Noisy frames, clean next frames [B, T, C, H, W] and the first state -> the loss, summed over the steps."""
        total = 0.0
        for t in range(target.shape[1]):
            state, intra, inter = self.em_step(noisy[:, t], target[:, t], state)
            total = total + intra + self.inter_weight * inter
        return total

    def initial_state(self, gamma: Tensor) -> State:
        return State(gamma.new_zeros(gamma.shape[0] * self.k, self.units), torch.zeros_like(gamma), gamma)

    def draw(self, frames: Tensor) -> tuple[Tensor, State]:
        """The frames [B, T, C, H, W] with noise on one value in five, and a random first state."""
        replacement = 1 - frames if self.binary else torch.rand_like(frames)
        noisy = torch.where(torch.rand_like(frames) < 0.2, replacement, frames)
        gamma = torch.randn(len(frames), self.k, *frames.shape[2:], device=frames.device).abs()
        return noisy, self.initial_state(gamma / gamma.sum(dim=1, keepdim=True))


def load_golden(model: RNNEM, golden: dict) -> list[nn.Parameter]:
    """Draws the golden weights into the model; returns its parameters in the golden order."""
    rng = np.random.default_rng(int(golden["seed"]))
    layers = iter([module for module in model.modules() if list(module.parameters(recurse=False))])
    parameters, scope = [], None
    for name, shape in zip(golden["names"].tolist(), golden["shapes"].tolist()):
        value = rng.standard_normal([int(n) for n in re.findall(r"\d+", shape)])
        if name.endswith("gamma:0"):
            value = 1 + 0.1 * value
        else:
            value *= 0.1 if value.ndim == 1 else math.sqrt(1 / math.prod(value.shape[:-1]))
        if scope != (scope := name.rpartition("/")[0]):
            layer = next(layers)
        parameters.append(layer.bias if name.endswith(("biases:0", "bias:0", "beta:0")) else layer.weight)
        order = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[value.ndim]  # inputs x outputs -> outputs x inputs
        with torch.no_grad():
            parameters[-1].copy_(torch.from_numpy(value.transpose(order).astype("float32")))
    return parameters


def check(path: str, device: str, layout: str, mode: str) -> None:
    """Prints how far outputs, losses and gradient norms are from the golden ones, in float32."""
    golden = np.load(path)
    steps, _, k = golden["pred"].shape[:3]
    model = RNNEM("flying_shapes", k, layout).to(device)
    parameters = load_golden(model, golden)
    noisy, clean, gamma = (
        torch.from_numpy(golden[name]).movedim(-1, -3).contiguous().to(device) for name in ("noisy", "clean", "gamma0")
    )
    noisy, target, state = noisy[:-1].transpose(0, 1), clean[1:].transpose(0, 1), model.initial_state(gamma)
    compile_model(model, mode)
    loss = model(noisy, target, state)
    loss.backward()
    found = {"pred": [], "gamma": [], "theta": [], "loss_terms": []}
    for t in range(steps):
        state, intra, inter = model.em_step(noisy[:, t], target[:, t], state)
        terms = torch.stack([intra + model.inter_weight * inter, intra, inter])
        images = [value.movedim(-3, -1) for value in state[1:]]
        for values, value in zip(found.values(), (*images, state.h[None], terms)):
            values.append(value)
    found = {name: torch.stack(values) for name, values in found.items()}
    found |= {"loss": loss, "grad_norm": torch.stack([parameter.grad.norm() for parameter in parameters])}
    print(f"largest relative errors on {device}, {layout}, {mode}: of every value, and relative to the largest value")
    for name, value in found.items():
        true = golden[name].astype("float64")
        error = np.abs(value.detach().double().cpu().numpy() - true)
        print(f"{name:<12}{(error / np.abs(true)).max():10.1e}{error.max() / np.abs(true).max():10.1e}")


def compile_model(model: RNNEM, mode: str) -> None:
    """Compiles the T unrolled steps with their loss, one EM step, or nothing."""
    part, compile_mode = MODES[mode]
    if part:
        setattr(model, part, torch.compile(getattr(model, part), mode=compile_mode, dynamic=False))


def training_step(model: RNNEM, frames: Tensor, bfloat16: bool, capturable: bool) -> Callable[[], None]:
    """One step of training on the same frames [B, T+1, C, H, W] again and again, each time with new noise."""
    adam = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-8, fused=True, capturable=capturable)

    def step() -> None:
        adam.zero_grad(set_to_none=True)
        noisy, state = model.draw(frames[:, :-1])
        with torch.autocast(frames.device.type, torch.bfloat16, enabled=bfloat16):
            loss = model(noisy, frames[:, 1:], state)
        loss.backward()
        adam.step()

    return step


def capture(step: Callable[[], None]) -> Callable[[], None]:
    """The whole step, noise and Adam included, as one CUDA graph. The current stream must not be the default one."""
    for _ in range(3):
        step()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
            step()
    except Exception:  # leaves stream and random generator as if the capture went on
        torch.cuda.set_stream(torch.cuda.Stream())
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        generator.graphsafe_set_state(torch.Generator("cuda").graphsafe_get_state())
        raise
    return graph.replay


def peak_gib(device: str, reset: bool = False) -> float:
    """Peak memory since the last reset: of tensors on a GPU, of the process on a CPU (Linux; else nan)."""
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
        torch.cuda.reset_peak_memory_stats() if reset else None
        return peak
    try:
        status = Path("/proc/self/status").read_text()
        Path("/proc/self/clear_refs").write_text("5") if reset else None
        return int(re.search(r"VmHWM:\s*(\d+)", status)[1]) / 2**20
    except (OSError, TypeError):
        return math.nan


def bench(
    network: str, k: int, batch: int, steps: int, mode: str, precision: str, layout: str, rounds: int, device: str
) -> dict:
    """Times one form of the training step."""
    if device == "cpu" and ("cudagraph" in mode or mode == "reduce-overhead"):
        raise ValueError("needs --device cuda")

    def seconds(function: Callable[[], None], times: int = 1) -> float:
        start = time.perf_counter()
        for _ in range(times):
            function()
        torch.cuda.synchronize() if device == "cuda" else None
        return (time.perf_counter() - start) / times

    gc.collect()
    torch.cuda.empty_cache() if device == "cuda" else None
    torch.manual_seed(0)
    model = RNNEM(network, k, layout).to(device)
    compile_model(model, mode)
    frames = torch.rand(batch, steps + 1, 1, model.size, model.size).lt(0.2).float().to(device)
    graph = mode.startswith("cudagraph")
    step = training_step(model, frames, precision == "bfloat16", graph)
    first = seconds(step)
    peak_gib(device, reset=True)
    step = capture(step) if graph else step
    seconds(step)
    times = max(1, round(1 / seconds(step)))  # a round takes about a second
    values = [seconds(step, times) for _ in range(rounds)]
    median = statistics.median(values)
    return {"ms": 1e3 * median, "ms_range": [1e3 * min(values), 1e3 * max(values)], "peak_gib": peak_gib(device),
            "sequences_per_second": batch / median, "compile_seconds": max(0.0, first - median)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", metavar="FILE", help="compare with golden outputs")
    parser.add_argument("--bench", action="store_true", help="time a training step")
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=["flying_shapes"])
    parser.add_argument("--k", nargs="+", type=int, default=[3])
    parser.add_argument("--batch", nargs="+", type=int, default=[16, 64])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--mode", nargs="+", choices=MODES, default=["eager", "compile"])
    parser.add_argument("--precision", nargs="+", choices=("float32", "bfloat16"), default=["float32"])
    parser.add_argument("--layout", nargs="+", choices=LAYOUTS, default=["nhwc"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of a CPU")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", metavar="FILE", help="file for the rows")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="Using padding='same' with even kernel")
    torch.set_num_threads(args.threads or torch.get_num_threads())
    if args.check:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        for layout, mode in itertools.product(args.layout, args.mode):
            if "cudagraph" not in mode:
                check(args.check, args.device, layout, mode)
    if not args.bench:
        return
    name = f"CPU, {torch.get_num_threads()} threads"
    if args.device == "cuda":
        name = torch.cuda.get_device_name()
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
        torch.cuda.set_stream(torch.cuda.Stream())  # see `capture`
    print(f"{name}, torch {torch.__version__}, {args.steps} EM steps, {args.rounds} rounds")
    print(f"{'network':<14}{'K':>2}{'B':>4} {'precision':<9} {'layout':<6} {'mode':<16}{'ms/step':>9} {'range':<16}"
          f"{'seq/s':>8}{'GiB':>7}{'compile s':>11}", flush=True)  # fmt: skip
    rows = []
    for config in itertools.product(args.network, args.k, args.batch, args.precision, args.layout):
        torch.compiler.reset()  # here only, so that modes that compile the same function share it
        for mode in args.mode:
            row = dict(zip(("network", "k", "batch", "precision", "layout"), config), mode=mode, steps=args.steps)
            print("{:<14}{:>2}{:>4} {:<9} {:<6} {:<16}".format(*config, mode), end="", flush=True)
            try:
                row |= bench(**row, rounds=args.rounds, device=args.device)
            except Exception as error:  # one form that fails must not end the others
                row["error"] = f"{type(error).__name__}: {(str(error).strip() or '?').splitlines()[0][:200]}"
                print(" failed:", row["error"], flush=True)
            else:
                spread = "{:.1f}-{:.1f}".format(*row["ms_range"])
                print("{ms:9.1f} {0:<16}{sequences_per_second:8.1f}{peak_gib:7.2f}{compile_seconds:11.1f}".format(
                    spread, **row), flush=True)  # fmt: skip
            rows.append({**row, "device": name, "torch": torch.__version__})
            if args.json:
                Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
