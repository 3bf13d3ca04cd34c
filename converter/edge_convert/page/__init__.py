"""report.html: one page that loads nothing and runs nothing, made from the JSON form of the report.

`render` is all that the rest of the converter needs. A field that report.json does not have, or that
is empty, leaves no trace on the page.
"""

from __future__ import annotations

from edge_convert.page.whole import render

__all__ = ["render"]
