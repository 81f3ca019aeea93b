"""Times one case of a peer and measures its memory: one line of JSON, with the fields of this project's own programs.

    python peers.py glow --peer normflows --size 64 --batch 8 --channels 3 --hidden 128 --levels 3 --steps 8
    python peers.py hyperbolic --size 48 --channels 32 --hidden 32 --depth 18 --batch 1
    python peers.py conv [--case N]
    python peers.py dense
"""

import argparse

import torch

import measure

# Batch, inputs, outputs, kernel, extents: the cases of `conv_throughput`, in its order.
CONVOLUTIONS = [
    (8, 6, 128, 3, (32, 32)),
    (8, 128, 128, 1, (32, 32)),
    (8, 128, 12, 3, (32, 32)),
    (8, 128, 128, 3, (32, 32)),
    (8, 6, 128, 3, (128, 128)),
    (8, 128, 12, 3, (128, 128)),
    (1, 64, 64, 3, (256, 256)),
    (128, 2, 32, 3, (8, 8)),
    (1, 32, 32, 3, (48, 48, 48)),
    (1, 16, 16, 3, (64, 64, 64)),
]


def uniform(*shape):
    """Uniform numbers of variance 1."""
    return (2 * torch.rand(*shape) - 1) * 3**0.5


def glow(args):
    import glow as nets

    if args.peer == "normflows":
        flow, loss = nets.normflows_glow(args.channels, args.size, args.hidden, args.levels, args.steps)
    else:
        flow, loss = nets.own_glow(args.channels, args.hidden, args.levels, args.steps, args.peer == "memcnn")
    x = uniform(args.batch, args.channels, args.size, args.size)
    figures = measure.gradient_step(loss, flow.parameters(), x, args.repeat)
    keys = ("size", "batch", "channels", "hidden", "levels", "steps", "repeat")
    measure.report(net="glow", peer=args.peer, **{key: getattr(args, key) for key in keys}, **figures)


def hyperbolic(args):
    from hyperbolic import Hyperbolic

    net = Hyperbolic(args.channels, args.hidden, args.depth)
    x = uniform(args.batch, 2 * args.channels, args.size, args.size, args.size)
    figures = measure.gradient_step(net.loss, net.parameters(), x, args.repeat)
    keys = ("size", "batch", "channels", "hidden", "depth", "repeat")
    measure.report(net="hyperbolic", peer="autograd", **{key: getattr(args, key) for key in keys}, **figures)


def conv(args):
    for batch, inputs, outputs, kernel, extents in CONVOLUTIONS if args.case is None else [CONVOLUTIONS[args.case]]:
        rank = len(extents)
        x, w = torch.rand(batch, inputs, *extents) - 0.5, torch.rand(outputs, inputs, *[kernel] * rank) - 0.5
        y = torch.rand(batch, outputs, *extents) - 0.5
        geometry = ([1] * rank, [kernel // 2] * rank, [1] * rank, False, [0] * rank, 1)
        operations = 2 * y.numel() * w[0].numel()

        def rate(call):
            return operations / measure.median_time(args.seconds, call) / 1e9

        def adjoint(mask):
            return rate(lambda: torch.ops.aten.convolution_backward(y, x, w, None, *geometry, mask))

        with torch.no_grad():
            measure.report(
                peer="torch",
                batch=batch,
                inputs=inputs,
                outputs=outputs,
                kernel=kernel,
                extents=extents,
                input_gradient_gflops=adjoint([True, False, False]),
                forward_gflops=rate(lambda: torch.ops.aten.convolution(x, w, None, *geometry)),
                weight_gradient_gflops=adjoint([False, True, False]),
            )


def dense(args):
    import normflows as nf

    flows = []
    for _ in range(args.couplings):
        net = nf.nets.MLP([1, *[args.hidden] * 2, 2], init_zeros=True)
        flows += [nf.flows.AffineCouplingBlock(net), nf.flows.Permute(2, mode="swap")]
    flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(2, trainable=False), flows)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
    figures = measure.gradient_step(flow.forward_kld, flow.parameters(), uniform(args.batch, 2), args.repeat, optimizer.step)
    with torch.no_grad():
        draw_s = measure.median_time(1.0, lambda: flow.sample(args.draws))
    keys = ("batch", "couplings", "hidden", "draws", "repeat")
    measure.report(
        net="dense",
        peer="normflows",
        **{key: getattr(args, key) for key in keys},
        **figures,
        samples_per_s=args.draws / draw_s,
    )


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=0, help="threads; PyTorch's own choice when 0")
    nets = parser.add_subparsers(dest="net", required=True)

    def case(call, repeat=5, **defaults):
        sub = nets.add_parser(call.__name__)
        sub.set_defaults(call=call)
        for name, value in defaults.items():
            sub.add_argument(f"--{name}", type=int, default=value)
        if repeat:
            sub.add_argument("--repeat", type=int, default=repeat, help="steps to time, after one that is not")
        return sub

    parsed = case(glow, size=64, batch=8, channels=3, hidden=128, levels=3, steps=8)
    parsed.add_argument("--peer", choices=("normflows", "autograd", "memcnn"), default="normflows")
    case(hyperbolic, size=48, batch=1, channels=32, hidden=32, depth=18)
    parsed = case(conv, repeat=0, case=None)
    parsed.add_argument("--seconds", type=float, default=0.5, help="seconds to spend on each figure")
    case(dense, repeat=200, batch=512, couplings=16, hidden=64, draws=10_000)
    return parser.parse_args()


if __name__ == "__main__":
    parsed = arguments()
    if parsed.threads > 0:
        torch.set_num_threads(parsed.threads)
    torch.manual_seed(0)
    parsed.call(parsed)
