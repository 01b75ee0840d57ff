"""What an accelerator makes of the package, in one table: `python experiments/accelerator.py`.

The laws of the contract on the device, draws and backward passes beside torch's own and released reinmax, an epoch of
a VAE, the curved family's share of a training step and where the host waits for the device, and training with all
algorithms deterministic, in mixed precision, with compiled networks, from a checkpoint of a CPU and on two processes.
It runs on a CPU as well, and is meant to take less than eight minutes of an accelerator. A check that fails says what
was raised, and the exit status is then 1.
"""

import contextlib
import functools
import io
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before CUDA starts; what deterministic=True asks for

import torch
import torch.multiprocessing as mp
from jsonargparse import auto_cli
from lightning import seed_everything
from torch import Tensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

import ils_lightning.estimators as package
from ils_lightning import tables
from ils_lightning.bench import compiled, epoch, interface, machine, samplers
from ils_lightning.bench.peers import REFERENCE, RELEASED
from ils_lightning.bench.samplers import pass_through
from ils_lightning.bench.timing import cold, interleaved
from ils_lightning.cli import main
from ils_lightning.errors import Refusal, did_you_mean
from ils_lightning.testing import LAWS

SIZES = ((8192, 8), (1024, 256), (64, 32_000))
CODES = ((24, 4), (8, 64))
SHOWN = ("ILS", "ReinMax", "StraightThrough", "OneHotCategoricalST", RELEASED)
CURVED = ("ReinMax", "ILSCV", "ILSDiagonal", "ILSNewton", "ILSJoint", "ILSTempered")
FIT = ["fit", "--config=vae_digits", "--trainer.limit_val_batches=2", "--trainer.enable_progress_bar=false"]
Line = tuple[str, str]
"""What was checked, and what came of it."""


def laws(device: torch.device, names: list[str]) -> Iterator[Line]:
    """Every law of the contract, on tensors of the device."""
    torch.set_default_device(device)
    try:
        for name in names:
            for law in LAWS:
                law(getattr(package, name))
            yield f"the {len(LAWS)} laws of the contract, {name}", "hold"
    finally:
        torch.set_default_device(None)


def speed(device: torch.device, repeats: int) -> Iterator[Line]:
    """Draws and backward passes beside the reference, warm and cold."""
    for batch, categories in SIZES:
        calls = samplers.work(batch, categories, device)
        warm, first = interleaved(calls, repeats, device), cold(calls, repeats, device)
        for name in SHOWN:
            if name in calls:
                ratios = [found[name].ratio(found[REFERENCE]) for found in (warm, first)]
                what = f"{name} / {REFERENCE}(hard=True), {batch} x {categories}: warm, cold"
                yield what, ", ".join(f"{ratio:.3g}" for ratio in ratios)


def vae_epoch(device: torch.device, repeats: int, batches: int) -> Iterator[Line]:
    """An epoch of a VAE on images of MNIST's size, through the Trainer and by hand."""
    epoch.BATCHES = batches
    (section,) = epoch.run(repeats, device, lambda done: None)
    for row in section.rows:
        what = f"{batches} steps of a VAE, {row['latents x categories']}, images {row['images']}, {row['way']}"
        yield what, f"{row['seconds an epoch']:.3g} s, {row['to plain']:.3g} of the plain loop"


def share_of_a_step(device: torch.device, repeats: int) -> Iterator[Line]:
    """Draw and backward pass alone, beside a training step of a VAE of MNIST's size that contains them."""
    for latents, categories in CODES:
        for name in CURVED:
            estimator = getattr(package, name)()
            step = interface.work(estimator, latents, categories, device)["estimator(logits, f)"]
            logits = torch.randn(100, latents, categories, device=device, requires_grad=True)
            alone = getattr(package, name)().to(device)
            work = {"step": step, "alone": pass_through(alone.sample, logits, torch.randn_like(logits))}
            found = interleaved(work, repeats, device)
            what = f"{name}, draw and backward / the VAE's step, {latents} x {categories}"
            yield what, f"{found['alone'].ratio(found['step']):.3g}"


def synchronisations(device: torch.device) -> Iterator[Line]:
    """How often one call and its backward pass make the host wait for the device."""
    for name in CURVED:
        what = f"{name}, host synchronisations of a step"
        if device.type != "cuda":
            yield what, "not applicable: the host is the device"
            continue
        estimator = getattr(package, name)().to(device)
        logits, slope = (torch.randn(100, 8, 16, device=device) for _ in range(2))
        call = functools.partial(_step, estimator, logits.requires_grad_(), slope)
        for _ in range(20):  # by then what is learnt from first steps is learnt
            call()
        torch.cuda.synchronize(device)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                call()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        yield what, str(sum("synchroniz" in str(one.message) for one in caught))


def _step(estimator: package.Estimator, logits: Tensor, slope: Tensor) -> None:
    loss = estimator(logits, lambda z: (z * slope).sum(dim=(-2, -1)).square())
    torch.autograd.grad(loss.sum(), logits)


def deterministic(device: torch.device, steps: int) -> Iterator[Line]:
    """Two runs that allow deterministic algorithms alone."""
    one, two = (_fit(device, steps, "--trainer.deterministic=true")["state_dict"] for _ in range(2))
    torch.use_deterministic_algorithms(False)
    same = all(torch.equal(one[name], two[name]) for name in one)
    yield f"deterministic=True, {steps} steps twice", "equal, bit for bit" if same else "the runs differ"


def bfloat16(device: torch.device, steps: int) -> Iterator[Line]:
    """Training in mixed precision."""
    weights = _fit(device, steps, "--trainer.precision=bf16-mixed")["state_dict"]
    finite = all(torch.isfinite(weight).all() for weight in weights.values())
    yield f"bf16-mixed, {steps} steps", "finite" if finite else "weights are not finite"


def compilation(device: torch.device, steps: int, backend: str) -> Iterator[Line]:
    """What torch.compile takes, and training with compiled networks."""
    for name in CURVED:
        yield f"{name} under torch.compile", compiled.traced(getattr(package, name)(), device)
    torch.compiler.reset()
    callback = ["--trainer.callbacks+=CompiledNetworks", f"--trainer.callbacks.init_args.backend={backend}"]
    begun = time.perf_counter()
    done = _fit(device, steps, *callback)["global_step"]
    yield f"compiled networks ({backend}), {done} steps", f"{time.perf_counter() - begun:.3g} s with compiling"


def resumption(device: torch.device, steps: int) -> Iterator[Line]:
    """A run that begins on a CPU and goes on here."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cpu.ckpt"
        torch.save(_fit(torch.device("cpu"), steps), path)
        with _counted_steps() as taken:
            resumed = _fit(device, 2 * steps, f"--ckpt_path={path}")
    told = f"went on to step {resumed['global_step']} in {len(taken)} steps"
    yield f"resumed from a CPU's checkpoint of step {steps}", told


@contextlib.contextmanager
def _counted_steps() -> Iterator[list[Optimizer]]:
    """Notes the optimizer of every step that is taken inside."""
    taken: list[Optimizer] = []
    hook = register_optimizer_step_post_hook(lambda optimizer, *_: taken.append(optimizer))
    try:
        yield taken
    finally:
        hook.remove()


def two_processes(device: torch.device, steps: int) -> Iterator[Line]:
    """Two processes that share a batch."""
    what, devices = f"two processes (ddp), {steps} steps", torch.accelerator.device_count()
    if device.type != "cpu" and devices < 2:
        yield what, f"not applicable: {devices} device"
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "saved.ckpt"
        context = mp.get_context("spawn")
        process = context.Process(target=_save, args=(path, device, steps))  # ranks change the process they are in
        process.start()
        process.join()
        done = torch.load(path, weights_only=True)["global_step"]
    yield what, f"went to step {done}"


def _save(path: Path, device: torch.device, steps: int) -> None:
    saved = _fit(device, steps, "--trainer.strategy=ddp_spawn", devices=2)
    torch.save(saved, path)


def _fit(device: torch.device, steps: int, *words: str, devices: int = 1) -> dict[str, Any]:
    """Trains `vae_digits` for so many steps from the command line; returns its last checkpoint."""
    accelerator = "gpu" if device.type == "cuda" else device.type
    place = [f"--trainer.accelerator={accelerator}", f"--trainer.devices={devices}", f"--trainer.max_steps={steps}"]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), io.StringIO() as nowhere:
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            main([*FIT, *place, *words])
        (last,) = Path(folder).rglob("last.ckpt")
        return torch.load(last, weights_only=True, map_location="cpu")


def _lines(checks: list[Callable[[], Iterator[Line]]]) -> Iterator[tuple[Line, bool]]:
    """What the checks found; one that fails costs no other."""
    for check in checks:
        try:
            yield from ((line, True) for line in check())
        except (Exception, SystemExit) as error:
            name = check.func.__name__ if isinstance(check, functools.partial) else str(check)
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            yield (name.replace("_", " "), f"FAILED: {type(error).__name__}: {first}"), False


def measure(
    device: str | None = None,
    estimators: list[str] | None = None,
    repeats: int = 10,
    batches: int = 600,
    steps: int = 20,
    backend: str = "inductor",
) -> None:
    """Prints the table.

    Args:
        device: where to measure; this machine's accelerator unless given, and its CPU where it has none.
        estimators: which the laws are tried on; ReinMax, the curved family and ILS unless given.
        repeats: interleaved repeats whose median is taken.
        batches: steps of 100 images in an epoch of the VAE.
        steps: optimiser steps of each training.
        backend: of torch.compile for the networks of a model.
    """
    given = estimators or ["ILS", *CURVED]
    for name in given:
        if name not in package.__all__:
            raise Refusal(f"--estimators: unknown estimator {name!r}{did_you_mean(name, package.__all__)}")
    place = machine.device(device or (torch.accelerator.current_accelerator() or torch.device("cpu")).type)
    logging.getLogger("lightning").setLevel(logging.ERROR)
    seed_everything(0, verbose=False)
    checks: list[Callable[[], Iterator[Line]]] = [
        functools.partial(laws, place, given),
        functools.partial(speed, place, repeats),
        functools.partial(vae_epoch, place, repeats, batches),
        functools.partial(share_of_a_step, place, repeats),
        functools.partial(synchronisations, place),
        functools.partial(deterministic, place, steps),
        functools.partial(bfloat16, place, steps),
        functools.partial(compilation, place, steps, backend),
        functools.partial(resumption, place, steps),
        functools.partial(two_processes, place, steps),
    ]
    begun, failed = time.perf_counter(), False
    print(", ".join(f"{name} {value}" for name, value in machine.describe(place).items()))
    print(f"\n{tables.markdown(('check', 'result'), (), words=2)}", end="", flush=True)
    for line, good in _lines(checks):
        failed |= not good
        print(tables.markdown(line, ()).splitlines()[0], flush=True)
    print(f"\n{time.perf_counter() - begun:.0f} seconds")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    auto_cli(measure)
