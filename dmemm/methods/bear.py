"""BEAR (Kumar et al., 2019), by d3rlpy with its published settings for D4RL."""

from types import SimpleNamespace
from typing import Any

from torch import Tensor

from dmemm.methods.offline import Policy, actor_critic
from dmemm.tasks import Task

__all__ = ["Policy", "train"]

_STEPS, _WARM_UP, _ALPHA_RATE = 500_000, 40_000, 1e-3  # published


def correct(impl: Any, alpha_learning_rate: float) -> None:
    """Correct three errors in BEAR of d3rlpy 2.8.1.

    The update of the Lagrange multiplier leaves the negative gradient of the constraint on the actor's parameters. The
    gradient of the actor's loss is added to it, so the constraint cancels. The decoder inverts `with_squash`: the
    imitator learns actions as if they were values before tanh, so the policy's actions become too small. The multiplier
    has the actor's learning rate instead of its own, a tenth of it.
    """
    decoder, update_alpha = impl._modules.vae_decoder, impl.update_alpha
    forward = decoder.forward

    def corrected_forward(x: Tensor, latent: Tensor, with_squash: bool) -> Tensor:
        decoded: Tensor = forward(x, latent, not with_squash)
        return decoded

    def corrected_update(mmd_loss: Tensor) -> None:
        update_alpha(mmd_loss)
        impl._modules.actor_optim.zero_grad()

    decoder.forward, impl.update_alpha = corrected_forward, corrected_update
    for group in impl._modules.alpha_optim.optim.param_groups:
        group["lr"] = alpha_learning_rate


def _algorithm(task: Task, steps: int, _: Any) -> Any:
    import d3rlpy

    class Corrected(d3rlpy.algos.BEAR):
        def inner_create_impl(self, *sizes: Any) -> None:
            super().inner_create_impl(*sizes)
            correct(self._impl, self._config.alpha_learning_rate)

    config = d3rlpy.algos.BEARConfig(
        actor_learning_rate=1e-4,
        critic_learning_rate=3e-4,
        imitator_learning_rate=3e-4,
        alpha_learning_rate=_ALPHA_RATE * max(1.0, _STEPS / steps),  # it has to grow a thousandfold
        temp_learning_rate=0.0,
        initial_temperature=1e-20,
        imitator_encoder_factory=d3rlpy.models.VectorEncoderFactory([750, 750]),
        batch_size=256,
        mmd_sigma=20.0,
        mmd_kernel="gaussian" if task.body == "halfcheetah" else "laplacian",
        n_mmd_action_samples=4,
        alpha_threshold=0.05,
        n_target_samples=10,
        n_action_samples=100,
        warmup_steps=min(_WARM_UP, steps // 2),  # with fewer, the policy has not imitated the data
    )
    return SimpleNamespace(create=lambda device: Corrected(config, device, False))


train = actor_critic(_algorithm)
