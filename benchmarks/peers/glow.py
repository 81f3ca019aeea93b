"""Glow three ways: normflows' own, this project's architecture under autograd, and the same with inversion instead of stored activations."""

import torch
from torch import nn
from torch.nn import functional as F


def normflows_glow(channels, size, hidden, levels, steps):
    """normflows' MultiscaleFlow of GlowBlocks, as in its own example; returns the module and its loss."""
    import normflows as nf

    q0, merges, flows = [], [], []
    for i in range(levels):
        factor = 2 ** (levels - i)
        flows.append([nf.flows.GlowBlock(channels * 2 ** (levels + 1 - i), hidden) for _ in range(steps)] + [nf.flows.Squeeze()])
        if i > 0:
            merges.append(nf.flows.Merge())
            shape = (channels * factor, size // factor, size // factor)
        else:
            shape = (channels * factor * 2, size // factor, size // factor)
        q0.append(nf.distributions.DiagGaussian(shape, trainable=False))
    flow = nf.MultiscaleFlow(q0, flows, merges, class_cond=False)
    return flow, flow.forward_kld


class Step(nn.Module):
    """ActNorm, three Householder reflections, affine coupling with a residual block: a flow step of this project."""

    def __init__(self, channels, hidden, reflections=3):
        super().__init__()
        self.half = channels // 2
        kept = channels - self.half
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.vectors = nn.Parameter(torch.randn(reflections, channels))
        self.w1 = nn.Parameter(torch.empty(hidden, kept, 3, 3))
        self.b1 = nn.Parameter(torch.zeros(hidden))
        self.w2 = nn.Parameter(torch.empty(hidden, hidden, 1, 1))
        self.b2 = nn.Parameter(torch.zeros(hidden))
        self.w3 = nn.Parameter(torch.empty(hidden, 2 * self.half, 3, 3))
        for weight, gain in ((self.w1, 1.0), (self.w2, 1.0), (self.w3, 0.1)):
            nn.init.xavier_uniform_(weight, gain)

    def matrix(self):
        """The product of the reflections, C x C: small, so that the state is passed over once."""
        q = torch.eye(self.vectors.shape[1])
        for v in self.vectors:
            q = q - torch.outer(v, v @ q) * (2 / v.dot(v))
        return q[:, :, None, None]

    def coefficients(self, kept):
        """(psi, t) of the residual block."""
        x2 = F.relu(F.conv2d(kept, self.w1, self.b1, padding=1))
        x3 = F.relu(x2 + F.conv2d(x2, self.w2, self.b2))
        u, t = F.conv_transpose2d(x3, self.w3, padding=1).chunk(2, 1)
        return 2 * torch.tanh(u / 2), t

    def forward(self, x):
        mixed = F.conv2d(x * self.scale + self.bias, self.matrix())
        moved, kept = mixed[:, : self.half], mixed[:, self.half :]
        psi, t = self.coefficients(kept)
        logdet = psi.sum((1, 2, 3)) + x.shape[2] * x.shape[3] * self.scale.abs().log().sum()
        return torch.cat((psi.exp() * moved + t, kept), 1), logdet

    def inverse(self, y):
        moved, kept = y[:, : self.half], y[:, self.half :]
        psi, t = self.coefficients(kept)
        mixed = torch.cat(((moved - t) * torch.exp(-psi), kept), 1)
        return (F.conv2d(mixed, self.matrix().transpose(0, 1)) - self.bias) / self.scale


class Recomputed(torch.autograd.Function):
    """A chain of steps that keeps its output alone: backward inverts a step, runs it forward again under autograd, and pulls back.

    What MemCNN's InvertibleModuleWrapper does, once for a chain instead of once a step. The package gave the same time and memory."""

    @staticmethod
    def forward(ctx, steps, x):
        ctx.steps = steps
        logdet = 0
        for step in steps:
            x, change = step(x)
            logdet = logdet + change
        ctx.save_for_backward(x)
        return x, logdet

    @staticmethod
    def backward(ctx, gy, glogdet):
        (y,) = ctx.saved_tensors
        for step in reversed(ctx.steps):
            x = step.inverse(y).detach().requires_grad_()
            with torch.enable_grad():
                again, logdet = step(x)
            torch.autograd.backward((again, logdet), (gy, glogdet))
            y, gy = x.detach(), x.grad
        return None, gy


class Glow(nn.Module):
    """Squeeze, steps, split, at each level; the loss of `gradient_step`: sum(z^2)/2/batch - mean(logdet)."""

    def __init__(self, channels, hidden, levels, steps, recompute):
        super().__init__()
        self.recompute = recompute
        self.levels = nn.ModuleList()
        for _ in range(levels):
            channels *= 4
            self.levels.append(nn.ModuleList(Step(channels, hidden) for _ in range(steps)))
            channels //= 2

    def level(self, steps, x):
        if self.recompute:
            # Autograd records a function only if an input of it wants a gradient.
            return Recomputed.apply(steps, x if x.requires_grad else x.requires_grad_())
        logdet = 0
        for step in steps:
            x, change = step(x)
            logdet = logdet + change
        return x, logdet

    def loss(self, x):
        batch, half_square, logdet = x.shape[0], 0, 0
        for i, steps in enumerate(self.levels):
            x, change = self.level(steps, F.pixel_unshuffle(x, 2))
            logdet = logdet + change
            if i + 1 < len(self.levels):
                x, latent = x.chunk(2, 1)
                half_square = half_square + latent.square().sum() / 2
        return (half_square + x.square().sum() / 2) / batch - logdet.mean()


def own_glow(channels, hidden, levels, steps, recompute):
    flow = Glow(channels, hidden, levels, steps, recompute)
    return flow, flow.loss
