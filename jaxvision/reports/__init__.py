"""Reports: text for the terminal, PNG files and rows."""

from jaxvision.reports.files import draw, draw_step, samples, save_predictions
from jaxvision.reports.start import start_lines
from jaxvision.reports.terminal import headline, text

__all__ = ["draw", "draw_step", "headline", "samples", "save_predictions", "start_lines", "text"]
