r"""What a diffusion transformer learns by: the error of predicted noise, and of its variances where it has them.

.. math:: \lVert \epsilon - \epsilon_\theta(x_t, t, c) \rVert^2 \;(+\; 0.001 \cdot T \cdot L_\mathrm{vlb})
"""

import math
from typing import Any

import torch
from torch import Tensor

VLB = 0.001  # weight of the variational bound times the number of steps (Nichol & Dhariwal 2021, section 3.1; DiT's recipe)


def noise_loss(model: Any, scheduler: Any, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Mean over a batch of images (B, C, H, W) with labels (B,); steps and noise are drawn from `generator`."""
    return noise_losses(model, scheduler, images, labels, generator).mean()


def noise_losses(model: Any, scheduler: Any, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """(B,) of them."""
    steps = torch.randint(0, scheduler.config.num_train_timesteps, (len(images),), generator=generator).to(images.device)
    noise = torch.randn(images.shape, generator=generator).to(images)
    noisy = scheduler.add_noise(images, noise, steps)
    predicted = model(noisy, timestep=steps, class_labels=labels).sample
    if predicted.shape[1] == images.shape[1]:
        error: Tensor = (predicted - noise).square().flatten(1).mean(1)
        return error
    epsilon, between = predicted.chunk(2, dim=1)
    bound = variational(scheduler, images, noisy, epsilon.detach(), between, steps)
    found: Tensor = (epsilon - noise).square().flatten(1).mean(1) + VLB * scheduler.config.num_train_timesteps * bound
    return found


def variational(scheduler: Any, clean: Tensor, noisy: Tensor, epsilon: Tensor, between: Tensor, steps: Tensor) -> Tensor:
    r"""(B,) bits a value that step t of the variational bound costs, the variance being
    :math:`\exp(v \log \beta_t + (1 - v) \log \tilde\beta_t)`, v from `between` in [-1, 1] (Nichol & Dhariwal 2021, equation 15).

    Kullback-Leibler divergence of the two normal distributions of :math:`x_{t-1}`; at t = 0 the likelihood of the values in 256 bins.
    """
    alphas = scheduler.alphas_cumprod.to(clean)
    before = torch.cat([alphas.new_ones(1), alphas[:-1]])
    betas = 1 - alphas / before
    posterior = betas * (1 - before) / (1 - alphas)
    posterior[0] = posterior[1]

    def at(table: Tensor) -> Tensor:
        return table[steps].reshape(-1, *[1] * (clean.ndim - 1))

    first = at(before.sqrt() * betas / (1 - alphas))
    second = at((1 - before) * (1 - betas).sqrt() / (1 - alphas))
    guess = (noisy - at((1 - alphas).sqrt()) * epsilon) / at(alphas.sqrt())
    true, mean = first * clean + second * noisy, first * guess + second * noisy
    share = (between + 1) / 2
    log_true, log_own = at(posterior.log()), share * at(betas.log()) + (1 - share) * at(posterior.log())
    divergence = (log_own - log_true + (log_true - log_own).exp() + (true - mean).square() * (-log_own).exp() - 1) / 2
    width, deviation = 1 / 255, (log_own / 2).exp()
    upper = torch.special.ndtr((clean + width - mean) / deviation).where(clean < 0.999, torch.ones(()).to(clean))
    lower = torch.special.ndtr((clean - width - mean) / deviation).where(clean > -0.999, torch.zeros(()).to(clean))
    likelihood = -(upper - lower).clamp(min=1e-12).log()
    nats = torch.where((steps == 0).reshape(-1, *[1] * (clean.ndim - 1)), likelihood, divergence)
    return nats.flatten(1).mean(1) / math.log(2)
