"""One page of HTML about a run, which needs no other file and no network."""

from jaxvision.reports.page.files import FILE, save_page

__all__ = ["FILE", "save_page"]
