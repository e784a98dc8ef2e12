"""Draws the report of a finished run; a failure is one warning."""

from __future__ import annotations

from pathlib import Path

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.runs.names import REPORT_FILE, RUN_FILE
from nlp_transfer.utils.logging import logger


def draw_report(folder: Path) -> None:
    """Write `report.html` where it is missing or of an earlier state; a failure is one warning."""
    report = folder / REPORT_FILE
    if report.is_file() and report.stat().st_mtime >= (folder / RUN_FILE).stat().st_mtime:
        return
    try:
        from nlp_transfer.reporting.html.report import write_report  # takes half a second to import

        write_report(folder)
    except Exception as error:  # (whatever it is, the model is there)
        if isinstance(error, UserError) and error.code is ExitCode.STOPPED:
            raise
        reason = f"{type(error).__name__}: {error}"
        logger.warning(
            "The run is finished, but its report could not be drawn (%s); "
            "`nlp-transfer report %s` tries again.",
            reason,
            folder,
        )
