"""Device, precision and processes of a run."""

import contextlib
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch

from ccloss.errors import InputError
from ccloss.training.config import Precision

T = TypeVar("T")

_NEUTRAL = frozenset({"", "0", "1", "no", "false"})
"""Values of Accelerate's environment variables that change nothing."""

_ACCELERATE_VARIABLES: Mapping[str, str] = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "use --accumulation-steps",
    "ACCELERATE_DYNAMO_BACKEND": "compilation is not supported",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed is not supported",
    "ACCELERATE_USE_FSDP": "FSDP is not supported",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM is not supported",
}
"""Variables that change training -> what to do instead."""


def check_environment(precision: Precision) -> None:
    """Rejects environment variables of Accelerate that would change training.

    Raises:
        InputError: such a variable is set to a value that has an effect.
    """
    for name, remedy in _ACCELERATE_VARIABLES.items():
        value = os.environ.get(name, "")
        enabled = name.startswith("ACCELERATE_USE") and value == "1"
        if value.lower() not in _NEUTRAL or enabled:
            raise InputError(f"{name}={value} would change training; unset it ({remedy})")
    mixed = os.environ.get("ACCELERATE_MIXED_PRECISION", "").lower()
    if mixed not in _NEUTRAL and mixed != precision:
        raise InputError(
            f"ACCELERATE_MIXED_PRECISION={mixed} contradicts precision {precision}; "
            "unset it and use --precision"
        )


def make_accelerator(precision: Precision, partly_frozen: bool = False) -> Any:
    """An Accelerator for this process, which joins the others that a launcher has started.

    Args:
        precision: of the network.
        partly_frozen: whether some parameters have no gradient in some steps.

    Raises:
        InputError: see :func:`check_environment`.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState
    from accelerate.utils import AutocastKwargs

    check_environment(precision)
    # Accelerate keeps one precision per process, but a process may train several runs.
    AcceleratorState._reset_state()
    return Accelerator(
        mixed_precision="bf16" if precision == "bf16" else "no",
        gradient_accumulation_steps=1,
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=partly_frozen),
            # A weight is used once a step, and a CUDA graph must not contain cached weights.
            AutocastKwargs(cache_enabled=False),
        ],
        # On CPUs, Accelerate joins the processes of a launcher only if this is given.
        cpu=not torch.accelerator.is_available(),
    )


def on_main_process(function: Callable[[], T]) -> T:
    """Calls a function on the main process alone; every process gets its result or its error.

    Decisions that depend on files or locks are taken this way, so that all processes of a launcher
    take the same one. All processes must call it. The result must be picklable.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return function()
    from accelerate.state import PartialState
    from accelerate.utils import broadcast_object_list

    state = PartialState(cpu=not torch.accelerator.is_available())
    outcome: list[Any] = [None, None]
    if state.is_main_process:
        try:
            outcome[0] = function()
        except Exception as error:
            outcome[1] = error
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    result: T = outcome[0]
    return result


def local_processes() -> int:
    """Number of processes that train together on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextlib.contextmanager
def fp32_without_tf32(precision: Precision) -> Iterator[None]:
    """Within it, products of an fp32 run are computed in fp32 and not in TF32."""
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolution.allow_tf32
    if precision == "fp32":
        matmul.allow_tf32 = convolution.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, convolution.allow_tf32 = before


def default_precision() -> Precision:
    """``bf16`` if this machine's device has instructions for it, else ``fp32``."""
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    return "bf16" if has_bf16(device) else "fp32"


def has_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16, and does not only emulate them."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    # oneDNN checks the instructions itself on ARM only.
    on_arm = platform.machine() in ("aarch64", "arm64")
    return bool(
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
        and (on_arm or torch.cpu._is_avx512_bf16_supported())
    )


def device_name(device: torch.device) -> str:
    """The product name of a GPU, else the type of the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
