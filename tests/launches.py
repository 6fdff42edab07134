"""What a device would be asked for, told without one."""

from torch.utils._python_dispatch import TorchDispatchMode


class Launches(TorchDispatchMode):
    """Names what is asked of a device: each is a kernel, but for what only makes room."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if not (func.is_view or func.overloadpacket.__name__.startswith("empty")):
            self.names.append(str(func.overloadpacket))
        return func(*args, **(kwargs or {}))
