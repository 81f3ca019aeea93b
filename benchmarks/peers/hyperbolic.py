"""The 3D hyperbolic network (Lensink et al. 2019) under autograd."""

import torch
from torch import nn
from torch.nn import functional as F


class Hyperbolic(nn.Module):
    """X_{n+1} = 2 X_n - X_{n-1} - alpha W^T * relu(W * X_n + b); the loss of `gradient_step`: sum(x_last^2)/2/batch."""

    def __init__(self, channels, hidden, depth, alpha=0.2):
        super().__init__()
        self.alpha = alpha
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(hidden, channels, 3, 3, 3)) for _ in range(depth))
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(hidden)) for _ in range(depth))
        for weight in self.weights:
            nn.init.xavier_uniform_(weight)

    def loss(self, x):
        older, newest = x.chunk(2, 1)
        for weight, bias in zip(self.weights, self.biases):
            hidden = F.relu(F.conv3d(newest, weight, bias, padding=1))
            older, newest = newest, 2 * newest - older - self.alpha * F.conv_transpose3d(hidden, weight, padding=1)
        return newest.square().sum() / 2 / x.shape[0]
