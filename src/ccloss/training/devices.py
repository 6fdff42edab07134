"""Device, precision and Accelerate settings of a run."""

import platform

import torch

from ccloss.training.config import Precision


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
