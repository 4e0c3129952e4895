"""Images that a generator made."""

from __future__ import annotations

import numpy as np

from jaxvision.reports.page.html import Html, paragraph, section, tag
from jaxvision.reports.page.page_data import PageData
from jaxvision.reports.page.thumbnails import as_uint8, picture

NUM_SHOWN = 64


def samples(data: PageData) -> Html | None:
    """Return the first generated images."""
    if data.form != "images" or not data.has_images:
        return None
    made = np.asarray(data.outputs.predictions)[:NUM_SHOWN]
    pictures = [picture(as_uint8(pixels), f"sample {i}", side=72) for i, pixels in enumerate(made)]
    note = f"The first {len(pictures)} of {len(data.outputs.predictions):,} generated images."
    return section("Samples", "samples", paragraph(note, note=True), tag("div", *pictures, class_="thumbs"))
