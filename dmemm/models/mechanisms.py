"""The environment's mechanisms: the transition ensemble T̂(s, a), the reward model R̂(s, a), the value ensemble V̂(s)."""

import math
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from dmemm.device import choose_device
from dmemm.models.storage import load_artifact, rebuilding, save_weights

# Bounds of the log-variance, in units of the standardised target (Chua et al., 2018, bound it softly likewise). The
# lower one keeps the density, and with it the guidance gradient, finite on noiseless data.
_LOG_VARIANCE = (-9.0, 1.0)


class _Members(nn.Module):
    """Several two-layer perceptrons evaluated in one batched product; a reward model has one member."""

    def __init__(self, members: int, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        sizes = [inputs, width, width, outputs]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
            bound = 1 / math.sqrt(fan_in)
            self.weights.append(nn.Parameter(torch.empty(members, fan_in, fan_out).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.zeros(members, 1, fan_out)))

    def forward(self, x: Tensor, first: int | None = None, member: Tensor | None = None) -> Tensor:
        """Map (members, n, inputs) to (members, n, outputs), or to the `first` ones of the outputs only.

        With the index of one `member`, shape (1,), the members' axis has size 1.
        """
        layers = list(zip(self.weights, self.biases, strict=True))
        if member is not None:
            layers = [(w.index_select(0, member), b.index_select(0, member)) for w, b in layers]
        *hidden, (weight, bias) = layers
        for w, b in hidden:
            x = functional.silu(torch.baddbmm(b, x, w))
        return torch.baddbmm(bias[..., :first], x, weight[..., :first])


class Mechanism(nn.Module):
    """Base: a regression from normalised (s, a), the target standardised by its own mean and deviation.

    Args:
        observation_dim, action_dim: sizes of s and a.
        target_dim: size of the target.
        members: networks trained side by side.
        width: units of the two hidden layers.
        outputs_per_target: 2 where a variance is predicted beside the mean.

    Attributes:
        header: what is saved beside the weights: the sizes, and once it is trained the task's name and the digest
            (`data`) of its raw data.
    """

    sizes: tuple[str, ...] = ("observation_dim", "action_dim", "members", "width")  # arguments that a file's header has
    target_mean: Tensor
    target_scale: Tensor

    def __init__(
        self, observation_dim: int, action_dim: int, target_dim: int, members: int, width: int, outputs_per_target: int
    ) -> None:
        """Build the members; the target's statistics are set by training or loading."""
        super().__init__()
        self.observation_dim, self.action_dim = observation_dim, action_dim
        self.header: dict[str, Any] = {
            "task": "",
            "data": "",
            "observation_dim": observation_dim,
            "action_dim": action_dim,
            "members": members,
            "width": width,
        }
        self.members = members
        self.network = _Members(members, observation_dim + action_dim, width, outputs_per_target * target_dim)
        self.register_buffer("target_mean", torch.zeros(target_dim))
        self.register_buffer("target_scale", torch.ones(target_dim))

    def outputs(self, s: Tensor, a: Tensor, first: int | None = None, member: Tensor | None = None) -> Tensor:
        """Raw outputs, or the `first` ones, of all members or one: (members, n, outputs), for s and a of shape (n, ·).

        s and a may also have the members' axis, shape (members, n, ·).
        """
        x = torch.cat([s, a], dim=-1)
        members = self.members if member is None else 1
        return self.network(x if x.dim() == 3 else x.expand(members, -1, -1), first, member)

    def loss(self, s: Tensor, a: Tensor, target: Tensor) -> Tensor:
        """Training loss of each member, shape (members,), for a standardised target (members, n, target_dim)."""
        raise NotImplementedError

    def held_out_loss(self, s: Tensor, a: Tensor, target: Tensor) -> Tensor:
        """Return the loss that the best epoch is chosen by; shape as in `loss`."""
        return self.loss(s, a, target)

    def save(self, path: Path) -> None:
        """Write weights and header."""
        save_weights(path, self.state_dict(), {"kind": type(self).__name__, **self.header})


class DynamicsEnsemble(Mechanism):
    """T̂(s, a): Gaussians over the next state, each member N(s + mean_m(s, a), var_m(s, a)).

    All states and actions are in the normalised units of the diffusion model.

    Attributes:
        visited: places of the data, normalised, (n, goal_dim); empty in tasks without a goal.
    """

    sizes = (*Mechanism.sizes, "visited")
    visited: Tensor

    def __init__(
        self, observation_dim: int, action_dim: int, members: int, width: int, visited: tuple[int, int] = (0, 0)
    ) -> None:
        """Build the ensemble."""
        super().__init__(observation_dim, action_dim, observation_dim, members, width, outputs_per_target=2)
        self.remember(torch.zeros(*visited))

    def remember(self, visited: Tensor) -> None:
        """Set `visited`."""
        self.header["visited"] = list(visited.shape)
        self.register_buffer("visited", visited)

    def _gaussians(self, s: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised mean and log-variance of the change of state, each (members, n, observation_dim)."""
        mean, raw = self.outputs(s, a).chunk(2, dim=-1)
        low, high = _LOG_VARIANCE
        log_variance = high - functional.softplus(high - raw)
        return mean, low + functional.softplus(log_variance - low)

    def forward(self, s: Tensor, a: Tensor, member: Tensor | None = None) -> Tensor:
        """The expected next state.

        Args:
            s: states, shape (..., observation_dim).
            a: actions, shape (..., action_dim).
            member: index of the member to ask, shape (1,); the mean of all by default.

        Returns:
            Shape (..., observation_dim).
        """
        flat_s, flat_a = s.reshape(-1, s.shape[-1]), a.reshape(-1, a.shape[-1])
        mean = self.outputs(flat_s, flat_a, self.observation_dim, member).mean(dim=0, dtype=s.dtype)
        return s + (mean * self.target_scale + self.target_mean).view_as(s)

    def rollout(self, s: Tensor, a: Tensor) -> Tensor:
        """Predict the states that actions lead to, each from the expected state before it.

        Args:
            s: the first states, shape (batch, observation_dim).
            a: shape (batch, horizon, action_dim); the last action leads beyond the horizon and is not taken.

        Returns:
            The states, the first one included, shape (batch, horizon, observation_dim).
        """
        states = [s]
        for action in a[:, :-1].unbind(dim=1):
            states.append(self(states[-1], action))
        return torch.stack(states, dim=1)

    def log_likelihood(self, s: Tensor, a: Tensor, s_next: Tensor) -> Tensor:
        """The log T̂(s' | s, a), the density of the members' mixture, shape (...), in normalised units of s'."""
        shape = s.shape[:-1]
        s, a, s_next = (x.reshape(-1, x.shape[-1]) for x in (s, a, s_next))
        mean, log_variance = self._gaussians(s, a)
        target = (s_next - s - self.target_mean) / self.target_scale
        squares = (target - mean).square() * (-log_variance).exp()
        constant = math.log(2 * math.pi) + 2 * self.target_scale.log()
        log_density = -0.5 * (squares + log_variance + constant).sum(dim=-1)
        return (log_density.logsumexp(dim=0) - math.log(self.members)).view(shape)

    def loss(self, s: Tensor, a: Tensor, target: Tensor) -> Tensor:
        """Negative log-likelihood, each entry times its own variance (β-NLL with β = 1, Seitzer et al., 2022).

        The plain likelihood down-weights high-variance regions such as contacts, where the mean then stays inaccurate:
        on hopper eq. 9's error is four times as large.
        """
        log_likelihood, variance = self._log_likelihood(s, a, target)
        return -(log_likelihood * variance.detach()).mean(dim=(1, 2))

    def held_out_loss(self, s: Tensor, a: Tensor, target: Tensor) -> Tensor:
        """Negative log-likelihood per dimension, without its constant."""
        return -self._log_likelihood(s, a, target)[0].mean(dim=(1, 2))

    def _log_likelihood(self, s: Tensor, a: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Of each entry of a standardised target, without the constant; and its variance."""
        mean, log_variance = self._gaussians(s, a)
        variance = log_variance.exp()
        return -0.5 * ((target - mean).square() / variance + log_variance), variance


class _Scalar(Mechanism):
    """A regression of one number by least squares."""

    def __init__(self, observation_dim: int, action_dim: int, members: int, width: int) -> None:
        """Build the model; R̂ has one member."""
        super().__init__(observation_dim, action_dim, 1, members, width, outputs_per_target=1)

    def standardise(self, x: Tensor | float) -> Tensor:
        """Map the target's own units to those of `forward`."""
        return (x - self.target_mean) / self.target_scale

    def restore(self, x: Tensor) -> Tensor:
        """Map what `forward` gives to the target's own units."""
        return x * self.target_scale + self.target_mean

    def loss(self, s: Tensor, a: Tensor, target: Tensor) -> Tensor:
        """Mean squared error."""
        return (self.outputs(s, a) - target).square().mean(dim=(1, 2))


class RewardModel(_Scalar):
    """R̂(s, a), in units of the data's standard deviation of r about its mean."""

    def forward(self, s: Tensor, a: Tensor) -> Tensor:
        """Standardised reward, shape (...), for s and a of shape (..., dim) in normalised units."""
        flat_s, flat_a = s.reshape(-1, s.shape[-1]), a.reshape(-1, a.shape[-1])
        return self.outputs(flat_s, flat_a)[0, :, 0].to(s.dtype).view(s.shape[:-1])


class ValueModel(_Scalar):
    """V̂(s), the discounted return to go, in units of the data's standard deviation of it about its mean.

    It has several members because plans are chosen by it: the best of many candidates is often one that a single
    network overestimates.

    Attributes:
        between_episodes: share of the target's variance that the episode explains; a scalar in [0, 1].
    """

    between_episodes: Tensor

    def __init__(self, observation_dim: int, action_dim: int, members: int, width: int) -> None:
        """Build the model; `action_dim` is 0."""
        super().__init__(observation_dim, action_dim, members, width)
        self.register_buffer("between_episodes", torch.zeros(()))

    def forward(self, s: Tensor) -> Tensor:
        """Return a pessimistic value of each state: the members' mean minus their standard deviation.

        Args:
            s: normalised states, shape (..., observation_dim).

        Returns:
            Standardised value, shape (...).
        """
        values = self._of_members(s)
        return values[0] if self.members == 1 else values.mean(dim=0) - values.std(dim=0, correction=0)

    def expected(self, s: Tensor) -> Tensor:
        """The members' mean, standardised; shapes as in `forward`."""
        return self._of_members(s).mean(dim=0)

    def _of_members(self, s: Tensor) -> Tensor:
        """Standardised values, shape (members, ...); `action_dim` is 0."""
        flat = s.reshape(-1, s.shape[-1])
        return self.outputs(flat, flat[:, :0])[..., 0].to(s.dtype).view(-1, *s.shape[:-1])


AnyMechanism = TypeVar("AnyMechanism", bound=Mechanism)


def load_mechanism(kind: type[AnyMechanism], path: Path) -> AnyMechanism:
    """Load a trained mechanism, frozen, on the chosen device.

    Raises:
        UserError: the file is missing, damaged, of another kind or of an earlier version.
    """
    tensors, header = load_artifact(path, kind.__name__)
    with rebuilding(path):
        model = kind(**{name: header[name] for name in kind.sizes})
        model.header |= {"task": header["task"], "data": header["data"]}
        model.load_state_dict(tensors)
    return model.requires_grad_(False).eval().to(choose_device())
