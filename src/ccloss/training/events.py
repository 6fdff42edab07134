"""TensorBoard event files, written synchronously.

The writer of TensorBoard itself writes in a thread: if the disk is full, the thread prints a
traceback and the error reaches the caller at some later call.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ccloss.training.files import naming


class EventWriter:
    """Writes scalars for TensorBoard.

    Args:
        folder: of the event files; created if needed. Each writer adds a file.
        first_step: TensorBoard discards what earlier files hold from this step on.

    Raises:
        OSError: the file cannot be written; names the file.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog

        folder.mkdir(exist_ok=True)
        self._path = folder / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        self._append({"file_version": "brain.Event:2"})
        self._append({"step": first_step, "session_log": SessionLog(status=SessionLog.START)})

    def add_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Appends the values of a step, by name."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._append({"step": step, "summary": Summary(value=scalars)})

    def _append(self, fields: Mapping[str, Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        event = Event(wall_time=time.time(), **fields)
        with naming(self._path), self._path.open("ab") as file:
            RecordWriter(file).write(event.SerializeToString())
