"""Reports: text for the terminal, PNG files and rows."""

from jaxvision.reports.calibration import section as calibration_section
from jaxvision.reports.calibration import section_of_ensemble as ensemble_calibration
from jaxvision.reports.files import chosen_evaluation, describe_checkpoint, draw_step, folder_of, samples, save
from jaxvision.reports.notebook import Report, result_html, result_text
from jaxvision.reports.prediction_table import save_predictions
from jaxvision.reports.start import start_lines
from jaxvision.reports.terminal import headline, split_name, text

__all__ = [
    "Report",
    "calibration_section",
    "chosen_evaluation",
    "describe_checkpoint",
    "draw_step",
    "ensemble_calibration",
    "folder_of",
    "headline",
    "result_html",
    "result_text",
    "samples",
    "save",
    "save_predictions",
    "split_name",
    "start_lines",
    "text",
]
