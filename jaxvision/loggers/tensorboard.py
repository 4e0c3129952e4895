"""Event files of TensorBoard, in the folder tensorboard/ of the workdir."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from jaxvision.loggers import Logger, register


@register("tensorboard", package="tensorboardX", extra="tensorboard")
def tensorboard(*, folder: Path, start: int) -> Logger:
    """Write event files for TensorBoard.

    tensorboardX's own writer is not used: its thread prints tracebacks on a full disk.
    """
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
    from tensorboardX.summary import scalar

    (folder / "tensorboard").mkdir(exist_ok=True)
    writer = EventsWriter(str(folder / "tensorboard" / "events"), filename_suffix=f".{os.getpid()}")

    def write(**content: Any) -> None:
        writer.write_event(Event(wall_time=time.time(), **content))

    def report(row: dict[str, Any]) -> None:
        for name, value in row.items():
            if isinstance(value, float):
                write(step=row["step"], summary=scalar(f"{row['split']}/{name}", value))
        writer.flush()

    write(step=start + 1, session_log=SessionLog(status=SessionLog.START))  # what was beyond is dropped
    return Logger(report, writer.close)
