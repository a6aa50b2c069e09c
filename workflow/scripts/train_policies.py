"""Train the policies that collect the local locomotion data: soft actor-critic (Haarnoja et al., 2018), as D4RL did.

    python workflow/scripts/train_policies.py --output policies --minutes 600

One process trains hopper, halfcheetah and walker2d side by side: their networks are stacked into one batched product,
and on a GPU all gradient steps between two environment steps are one CUDA graph. An H200 made some 1600 gradient steps
a second for each of the three. Hyperparameters are the paper's.

A run that `--minutes` ended goes on from OUTPUT/state.safetensors. OUTPUT/BODY.safetensors has the actor at each step
of `CHECKPOINTS`, from which workflow/scripts/choose_policies.py takes those of `dmemm/data/policies`.
"""

import argparse
import json
import math
import multiprocessing
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from dmemm.files import replacing

ENVIRONMENTS = {"hopper": "Hopper-v4", "halfcheetah": "HalfCheetah-v4", "walker2d": "Walker2d-v4"}
SIZES = [(11, 3), (17, 6), (17, 6)]  # of their states and actions
CHECKPOINTS = sorted({0, *(int(5000 * 1.25**n) // 1000 * 1000 for n in range(18)), *range(200_000, 3_000_001, 50_000)})
WORKERS = 2  # processes a body
COPIES = 16  # environments of each body; as many gradient steps follow on each step of all
RANDOM_STEPS = 10_000  # of each body before it learns
BATCH, WIDTH, LEARNING_RATE, DISCOUNT, POLYAK = 256, 256, 3e-4, 0.99, 0.005
LOG_STD = (-20.0, 2.0)

Layers = list[Tensor]  # weight, bias, weight, bias, ...


def layers(stack: int, sizes: Sequence[int], device: torch.device) -> Layers:
    """Perceptrons side by side, initialised as torch.nn.Linear."""
    made = []
    for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
        bound = 1 / math.sqrt(fan_in)
        for shape in ((stack, fan_in, fan_out), (stack, 1, fan_out)):
            made.append(torch.empty(shape, device=device).uniform_(-bound, bound).requires_grad_())
    return made


def evaluate(network: Layers, x: Tensor) -> Tensor:
    """Map (stack, n, inputs) to (stack, n, outputs)."""
    for index in range(0, len(network), 2):
        x = torch.baddbmm(network[index + 1], x, network[index])
        if index + 2 < len(network):
            x = functional.relu(x)
    return x


class SoftActorCritic:
    """Actors, twin critics and replay buffers of several bodies, padded to the largest state and action.

    Args:
        sizes: (Ds, Da) of each body.
        capacity: transitions that a buffer holds.
        device: of all tensors.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], capacity: int, device: torch.device) -> None:
        """Initialise the networks."""
        self.bodies, self.capacity, self.device = len(sizes), capacity, device
        self.s_dim, self.a_dim = (max(size[axis] for size in sizes) for axis in (0, 1))
        self.mask = torch.zeros(self.bodies, 1, self.a_dim, device=device)
        for body, (_, a_dim) in enumerate(sizes):
            self.mask[body, :, :a_dim] = 1
        self.actor = layers(self.bodies, [self.s_dim, WIDTH, WIDTH, 2 * self.a_dim], device)
        self.critics = layers(2 * self.bodies, [self.s_dim + self.a_dim, WIDTH, WIDTH, 1], device)
        self.targets = [parameter.detach().clone() for parameter in self.critics]
        self.log_alpha = torch.zeros(self.bodies, 1, 1, device=device, requires_grad=True)
        # [s, a, r, terminated, s']
        self.buffer = torch.zeros(self.bodies, capacity, 2 * self.s_dim + self.a_dim + 2, device=device)
        self.filled = torch.zeros((), device=device)
        self.count = 0
        self._rows = torch.arange(self.bodies, device=device)[:, None]
        capturable = device.type == "cuda"
        self.optimisers = [
            torch.optim.Adam(parameters, lr=LEARNING_RATE, fused=True, capturable=capturable)
            for parameters in (self.actor, self.critics, [self.log_alpha])
        ]

    def sample(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Actions (bodies, n, Da) and their log-probability (bodies, n, 1) for states (bodies, n, Ds)."""
        mean, log_std = evaluate(self.actor, s).chunk(2, dim=-1)
        log_std = log_std.clamp(*LOG_STD)
        noise = torch.randn_like(mean)
        u = mean + log_std.exp() * noise
        log_density = -0.5 * (noise.square() + math.log(2 * math.pi)) - log_std
        log_slope = 2 * (math.log(2) - u - functional.softplus(-2 * u))  # of tanh
        return u.tanh() * self.mask, ((log_density - log_slope) * self.mask).sum(dim=-1, keepdim=True)

    def _worst(self, critics: Layers, s: Tensor, a: Tensor) -> Tensor:
        return self._both(critics, s, a).amin(dim=0)

    def _both(self, critics: Layers, s: Tensor, a: Tensor) -> Tensor:
        return evaluate(critics, torch.cat([s, a], dim=-1).repeat(2, 1, 1)).unflatten(0, (2, self.bodies))

    def step(self) -> None:
        """One gradient step of each network, for each body; nothing here waits for the device."""
        index = (torch.rand(self.bodies, BATCH, device=self.device) * self.filled).long()
        sizes = [self.s_dim, self.a_dim, 1, 1, self.s_dim]
        s, a, reward, terminated, s_next = self.buffer[self._rows, index].split(sizes, dim=-1)
        alpha = self.log_alpha.detach().exp()
        with torch.no_grad():
            a_next, log_probability = self.sample(s_next)
            soft = self._worst(self.targets, s_next, a_next) - alpha * log_probability
            target = reward + DISCOUNT * (1 - terminated) * soft
        critic_loss = 0.5 * (self._both(self.critics, s, a) - target).square().mean(dim=2).sum()
        self._descend(critic_loss, self.critics, self.optimisers[1])
        a_new, log_probability = self.sample(s)
        actor_loss = (alpha * log_probability - self._worst(self.critics, s, a_new)).mean(dim=1).sum()
        self._descend(actor_loss, self.actor, self.optimisers[0])
        entropy_gap = (log_probability.detach() - self.mask.sum(dim=-1, keepdim=True)).mean(dim=1, keepdim=True)
        self._descend(-(self.log_alpha * entropy_gap).sum(), [self.log_alpha], self.optimisers[2])
        with torch.no_grad():
            torch._foreach_lerp_(self.targets, self.critics, POLYAK)

    def _repeat(self, count: int) -> None:
        for _ in range(count):
            self.step()

    @staticmethod
    def _descend(loss: Tensor, parameters: Layers, optimiser: torch.optim.Adam) -> None:
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        optimiser.step()

    def several_steps(self, count: int) -> Callable[[], object]:
        """A function that makes `count` gradient steps: on a GPU one graph."""
        self._repeat(3)  # makes the optimisers' states
        if self.device.type != "cuda":
            return partial(self._repeat, count)
        stream = torch.cuda.Stream()  # a capture needs a few steps on another stream first
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._repeat(3)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._repeat(count)
        return graph.replay

    def add(self, transitions: NDArray[np.float32]) -> None:
        """Store transitions (bodies, n, ...)."""
        rows = torch.as_tensor(transitions).to(self.device, non_blocking=True)
        index = (self.count + torch.arange(rows.shape[1], device=self.device)) % self.capacity
        self.buffer[:, index] = rows
        self.count += rows.shape[1]
        self.filled.fill_(min(self.count, self.capacity))

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a run changes, in place."""
        found = {"log_alpha": self.log_alpha, "buffer": self.buffer}
        for name, network in (("actor", self.actor), ("critics", self.critics), ("targets", self.targets)):
            found |= {f"{name}.{index}": tensor for index, tensor in enumerate(network)}
        for number, optimiser in enumerate(self.optimisers):
            for index, parameter in enumerate(optimiser.param_groups[0]["params"]):
                for name, value in optimiser.state[parameter].items():
                    found[f"optimiser{number}.{index}.{name}"] = value
        return found


def collect(link: Connection, name: str, seed: int, copies: int, s_dim: int, a_dim: int) -> None:
    """Step `copies` environments whenever actions (copies, Da) come, in a process of its own.

    Sends the transitions in the buffer's layout, the states to act in, and the returns of the episodes that ended.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*out of date.*")
        envs = [gym.make(name, disable_env_checker=True) for _ in range(copies)]
    size = envs[0].action_space.shape[0]  # type: ignore[index]
    observations, returns = np.zeros((copies, s_dim), np.float32), np.zeros(copies)
    for copy, env in enumerate(envs):
        observation = env.reset(seed=seed + copy)[0]
        observations[copy, : len(observation)] = observation
    link.send(observations)
    while True:
        actions = link.recv()
        rows = np.zeros((copies, 2 * s_dim + a_dim + 2), np.float32)
        rows[:, :s_dim], rows[:, s_dim : s_dim + a_dim] = observations, actions
        ended = []
        for copy, env in enumerate(envs):
            observation, reward, terminated, truncated, _ = env.step(actions[copy, :size])
            rows[copy, s_dim + a_dim : s_dim + a_dim + 2] = reward, terminated
            rows[copy, s_dim + a_dim + 2 : s_dim + a_dim + 2 + len(observation)] = observation
            returns[copy] += float(reward)
            if terminated or truncated:
                ended.append(float(returns[copy]))
                returns[copy] = 0
                observation = env.reset()[0]
            observations[copy, : len(observation)] = observation
        link.send((rows, observations, ended))


class Bodies:
    """`COPIES` environments of each body, in `WORKERS` processes a body.

    Attributes:
        observations: shape (bodies, COPIES, Ds), the states to act in.
        recent: of each body, the returns of its last 20 episodes.
    """

    def __init__(self, seed: int, s_dim: int, a_dim: int) -> None:
        """Start an episode in each."""
        context, self._links, share = multiprocessing.get_context("fork"), [], COPIES // WORKERS
        for number, name in enumerate(name for name in ENVIRONMENTS.values() for _ in range(WORKERS)):
            link, other = context.Pipe()
            arguments = (other, name, seed + 1000 * number, share, s_dim, a_dim)
            context.Process(target=collect, args=arguments, daemon=True).start()
            self._links.append(link)
        self.observations = np.concatenate([link.recv() for link in self._links]).reshape(-1, COPIES, s_dim)
        self.recent: list[deque[float]] = [deque(maxlen=20) for _ in ENVIRONMENTS]

    def send(self, actions: NDArray[np.float32]) -> None:
        """Let all act, (bodies, COPIES, Da)."""
        for link, part in zip(self._links, actions.reshape(len(self._links), -1, actions.shape[-1]), strict=True):
            link.send(part)

    def receive(self) -> NDArray[np.float32]:
        """The transitions, (bodies, COPIES, ...) in the buffer's layout."""
        rows, observations, ended = zip(*(link.recv() for link in self._links), strict=True)
        self.observations = np.concatenate(observations).reshape(self.observations.shape)
        for number, returns in enumerate(ended):
            self.recent[number // WORKERS].extend(returns)
        return np.concatenate(rows).reshape(len(ENVIRONMENTS), COPIES, -1)


def main() -> None:
    """Train until the minutes or the steps are over."""
    parser = argparse.ArgumentParser(description="Train the policies that collect the local locomotion data.")
    parser.add_argument("--output", type=Path, required=True, help="folder of the checkpoints")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--steps", type=int, default=1_500_000, help="of each body")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    torch.manual_seed(arguments.seed)
    torch.backends.cuda.matmul.allow_tf32 = True
    bodies = Bodies(
        arguments.seed, *(max(size[axis] for size in SIZES) for axis in (0, 1))
    )  # they fork before CUDA starts
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    agent = SoftActorCritic(SIZES, arguments.steps + COPIES, device)
    agent.filled.fill_(1)
    steps = agent.several_steps(COPIES)  # capturing it makes a few steps on an empty buffer
    arguments.output.mkdir(parents=True, exist_ok=True)
    state = arguments.output / "state.safetensors"
    kept: dict[str, dict[str, Tensor]] = {body: {} for body in ENVIRONMENTS}
    history: list[dict[str, Any]] = []
    if state.exists():
        with safe_open(state, "pt", device=str(device)) as file, torch.no_grad():
            for name, tensor in agent.tensors().items():
                tensor.copy_(file.get_tensor(name))
            agent.count, history = (json.loads(file.metadata()[key]) for key in ("count", "history"))
        agent.filled.fill_(agent.count)
        for body in ENVIRONMENTS:
            with safe_open(arguments.output / f"{body}.safetensors", "pt") as file:
                kept[body] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    began, before, shown = time.monotonic(), agent.count, 0.0
    rng = np.random.default_rng([arguments.seed, agent.count])

    def keep() -> None:
        scores = [float(np.mean(recent)) if recent else math.nan for recent in bodies.recent]
        history.append({"step": agent.count, **dict(zip(ENVIRONMENTS, scores, strict=True))})
        for index, (body, (s_dim, a_dim)) in enumerate(zip(ENVIRONMENTS, SIZES, strict=True)):
            kept[body] |= _actor(agent, index, s_dim, a_dim, agent.count)

    while agent.count < arguments.steps and time.monotonic() < end:
        done = agent.count
        if any(done - COPIES < checkpoint <= done for checkpoint in CHECKPOINTS):
            keep()
        with torch.no_grad():
            if done < RANDOM_STEPS:
                actions = rng.uniform(-1, 1, (agent.bodies, COPIES, agent.a_dim)).astype(np.float32)
                actions *= agent.mask.cpu().numpy()
            else:
                actions = agent.sample(torch.as_tensor(bodies.observations, device=device))[0].cpu().numpy()
        bodies.send(actions)
        if done >= RANDOM_STEPS:
            steps()  # on a GPU in the background, while the environments step
        agent.add(bodies.receive())
        if time.monotonic() - shown > 20:
            shown = time.monotonic()
            rate = (agent.count - before) / (shown - began)
            texts = [
                f"{body} {np.mean(recent or [0]):.0f}" for body, recent in zip(ENVIRONMENTS, bodies.recent, strict=True)
            ]
            print(f"step {agent.count}, {rate:.0f} a second, last 20 returns: {', '.join(texts)}", flush=True)
    keep()
    for body in ENVIRONMENTS:
        with replacing(arguments.output / f"{body}.safetensors") as temporary:
            save_file(kept[body], temporary, {"history": json.dumps(history)})
    metadata = {"count": json.dumps(agent.count), "history": json.dumps(history)}
    with replacing(state) as temporary:
        save_file({name: tensor.detach().contiguous() for name, tensor in agent.tensors().items()}, temporary, metadata)


def _actor(agent: SoftActorCritic, body: int, s_dim: int, a_dim: int, step: int) -> dict[str, Tensor]:
    """A body's actor without padding, float16, as STEP.LAYER; torch.nn.Linear's layout."""
    with torch.no_grad():
        tensors = [tensor[body].half().cpu() for tensor in agent.actor]
    columns = [*range(a_dim), *range(agent.a_dim, agent.a_dim + a_dim)]
    tensors[0], tensors[4], tensors[5] = tensors[0][:s_dim], tensors[4][:, columns], tensors[5][:, columns]
    named = {}
    for layer in range(3):
        named[f"{step}.weight{layer}"] = tensors[2 * layer].T.contiguous()
        named[f"{step}.bias{layer}"] = tensors[2 * layer + 1][0].contiguous()
    return named


if __name__ == "__main__":
    main()
