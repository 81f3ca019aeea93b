"""What the cases share: the clock, the resident set, versions, one line of JSON."""

import json
import os
import platform
import statistics
import time

import torch


def status(key):
    """A size of /proc/self/status in megabytes (10^6 bytes); None where there is none."""
    try:
        with open("/proc/self/status") as lines:
            for line in lines:
                if line.startswith(key):
                    return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return None


def watch_peak():
    """Sets the highest mark of the resident set back to the present."""
    try:
        with open("/proc/self/clear_refs", "w") as mark:
            mark.write("5")
    except OSError:
        pass


def versions():
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for line in torch.__config__.show().splitlines():
        if "MKL-DNN" in line:
            found["onednn"] = line.split("MKL-DNN")[1].split()[0]
    try:
        from importlib.metadata import version

        found["normflows"] = version("normflows")
    except ImportError:
        pass
    return found


def gradient_step(forward, parameters, x, repeat, update=None):
    """Times `repeat` steps after one that is not: `forward(x)` returns the loss; backward into the gradients; `update`, if any.

    Gradients are kept between steps and set to zero, as a training loop would with `set_to_none=False`, so that they count once."""
    parameters = list(parameters)
    base = status("VmRSS:")
    watch_peak()
    forward_s, step_s, loss = [], [], None
    for _ in range(repeat + 1):
        for p in parameters:
            if p.grad is not None:
                p.grad.zero_()
        start = time.perf_counter()
        value = forward(x)
        forward_s.append(time.perf_counter() - start)
        value.backward()
        if update is not None:
            update()
        step_s.append(time.perf_counter() - start)
        loss = float(value.detach())
        del value
    peak = status("VmHWM:")
    known = base is not None and peak is not None
    return {
        "params": sum(p.numel() for p in parameters),
        "forward_s": statistics.median(forward_s[1:]),
        "step_s": statistics.median(step_s[1:]),
        "base_mb": base,
        "peak_mb": peak,
        "delta_mb": peak - base if known else None,
        "loss": loss,
    }


def median_time(seconds, call):
    """Median time of a call over at least three and at least `seconds`, after one call that is not timed."""
    call()
    begin, times = time.perf_counter(), []
    while len(times) < 3 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def report(**fields):
    print(json.dumps({**fields, "threads": torch.get_num_threads(), "cores": os.cpu_count(), "versions": versions()}), flush=True)
