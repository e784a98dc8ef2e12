"""Writes `report.html`: one page about a run that opens from disk and loads nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from nlp_transfer.reporting import conclusions
from nlp_transfer.reporting.console import verifier
from nlp_transfer.reporting.html import mistakes, sections
from nlp_transfer.reporting.html.glossary import used_terms
from nlp_transfer.reporting.html.slices import slices
from nlp_transfer.reporting.markdown import markdown_report
from nlp_transfer.reporting.run_record import RunRecord, read_record
from nlp_transfer.reporting.templates import environment
from nlp_transfer.runs.names import REPORT_FILE, REPORT_MD_FILE
from nlp_transfer.utils.files import write_text

TEMPLATE = "html/report.html.j2"


def write_report(folder: Path) -> Path:
    """Write `report.html`, and `report.md` beside it, from the files of a run, finished or not.

    Returns:
        The HTML page.

    Raises:
        UserError: if the folder holds no run.
    """
    record = read_record(folder)
    write_text(folder / REPORT_MD_FILE, markdown_report(record))
    write_text(folder / REPORT_FILE, page(record))
    return folder / REPORT_FILE


def page(record: RunRecord) -> str:
    """The HTML page; every text in it is escaped."""
    templates = environment(autoescape=True)
    short = re.split("[/:]", record.config.checkpoint.name.rstrip("/"))[-1]
    context = {
        "record": record,
        "run": record.run,
        "verifier": verifier(record.run.get("verified", {})),
        "title": f"{record.config.task} · {short}",
        "overview": conclusions.overview(record),
        "setup": dict(sections.setup(record)),
        "data": sections.data(record),
        "learning": list(sections.learning_curves(record)),
        "learned": conclusions.training(record),
        "results": sections.results(record),
        "confidence": sections.confidence(record),
        "slices": slices(record),
        "errors": mistakes.errors(record),
        "explanations": mistakes.explanations(record),
        "commands": list(sections.commands(record)),
    }
    without_glossary = templates.get_template(TEMPLATE).render(**context, glossary={})
    used = used_terms(re.sub(r"<style>.*?</style>|<[^>]*>", " ", without_glossary, flags=re.DOTALL))
    return templates.get_template(TEMPLATE).render(**context, glossary=used)
