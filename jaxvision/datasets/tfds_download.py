"""Bound the downloads of TensorFlow Datasets: they fail fast without a response and stop with their caller."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

CONNECT_SECONDS, ADDRESS_SECONDS, READ_SECONDS = 15, 5, 60
RETRIES = 4  # when the server is busy; 3 seconds in total


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _impatient(send: Callable[..., Any], stopped: threading.Event) -> Callable[..., Any]:
    """Return an `HTTPAdapter.send` that tries an unresponsive host only once.

    TensorFlow Datasets would try eleven times.
    """
    from requests.exceptions import ConnectionError

    def check() -> None:
        if stopped.is_set():
            raise ConnectionError("another download failed")

    def impatient(self, request, *args, **options):
        check()
        self.max_retries = self.max_retries.new(total=RETRIES, connect=0, read=False)
        response = send(self, request, *args, **{**options, "timeout": (ADDRESS_SECONDS, READ_SECONDS)})
        content = response.iter_content

        def blocks(*args, **options):
            for block in content(*args, **options):
                check()
                yield block

        response.iter_content = blocks
        return response

    return impatient


def _hasty(connect: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `create_connection` with one overall timeout.

    Name resolution can take minutes, and a host may have dozens of addresses.
    """

    def hasty(*args, **options):
        connection: Future[Any] = Future()

        def attempt():
            try:
                connection.set_result(connect(*args, **options))
            except Exception as error:  # forwarded to the caller
                connection.set_exception(error)

        threading.Thread(target=attempt, daemon=True).start()
        return connection.result(CONNECT_SECONDS)

    return hasty


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Bound the downloads started inside; on exit, unfinished ones are stopped and their files removed."""
    from requests.adapters import HTTPAdapter
    from tensorflow_datasets.core.download import download_manager, downloader
    from urllib3.util import connection

    stopped, executors, folders = threading.Event(), [], []

    class Downloader(downloader._Downloader):
        def __init__(self, **options):
            super().__init__(**options)
            executors.append(self._executor)

        def download(self, url, destination_path, verify=True):
            folders.append(destination_path)
            return super().download(url, destination_path, verify)

    with (
        _replaced(download_manager, "get_downloader", Downloader),
        _replaced(HTTPAdapter, "send", _impatient(HTTPAdapter.send, stopped)),
        _replaced(connection, "create_connection", _hasty(connection.create_connection)),
    ):
        try:
            yield
        finally:
            stopped.set()
            for executor in executors:
                executor.shutdown()
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
