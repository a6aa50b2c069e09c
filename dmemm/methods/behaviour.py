"""A small Gaussian network for actions: MPPI's prior, MOReL's initial policy and HDMI's inverse dynamics."""

import torch
from torch import Tensor, nn

_BATCH, _LEARNING_RATE = 256, 1e-3


class GaussianPolicy(nn.Module):
    """N(μ(x), σ²) over normalised actions, with a σ that does not depend on x.

    Args:
        inputs: size of x.
        action_dim: size of an action.
        width: units of each of the two hidden layers.
    """

    def __init__(self, inputs: int, action_dim: int, width: int = 64) -> None:
        """Build the layers."""
        super().__init__()
        self.mean = nn.Sequential(
            nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, action_dim)
        )
        self.log_std = nn.Parameter(torch.zeros(action_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean actions, shape (..., action_dim), for x of shape (..., inputs)."""
        means: Tensor = self.mean(x)
        return means

    def log_prob(self, x: Tensor, a: Tensor) -> Tensor:
        """Return the log density of actions a up to a constant, shape (...)."""
        return -(0.5 * ((a - self.mean(x)) / self.log_std.exp()).square() + self.log_std).sum(dim=-1)


def imitate(policy: GaussianPolicy, x: Tensor, a: Tensor, steps: int, generator: torch.Generator) -> None:
    """Maximise the likelihood of actions a (n, Da) given x (n, inputs) by `steps` steps of Adam."""
    optimiser = torch.optim.Adam(policy.parameters(), lr=_LEARNING_RATE)
    for _ in range(steps):
        index = torch.randint(len(x), (_BATCH,), generator=generator)
        loss = -policy.log_prob(x[index], a[index]).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
