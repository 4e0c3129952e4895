"""Write the page of a report."""

from __future__ import annotations

import warnings
from pathlib import Path

from jaxvision import storage
from jaxvision.interfaces import Dataset
from jaxvision.reports.page.document import page
from jaxvision.reports.page.page_data import PageData
from jaxvision.run import Trained

FILE = "report.html"


def save_page(
    folder: Path, data: PageData, *, trained: Trained | None = None, dataset: Dataset | None = None
) -> Path | None:
    """Write report.html into a folder and return it.

    With the trained run and its dataset, the page also has what needs them: features, heat maps, comparisons with the
    training images. An error is a warning, because the results of the run are written already; then there is no page.
    """
    file = folder / FILE
    try:
        if trained is not None and dataset is not None:
            from jaxvision.reports.page.gather import gather

            data = gather(data, trained, dataset)
        storage.write_text(file, page(data))
    except Exception as error:
        warnings.warn(f"cannot write {file}: {type(error).__name__}: {error}", stacklevel=2)
        file.unlink(missing_ok=True)
        return None
    return file
