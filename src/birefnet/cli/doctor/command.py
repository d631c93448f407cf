"""`birefnet doctor`: what is installed, what the machine offers, and whether it works."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from birefnet.cli.options import GroupedCommand, Json, examples
from birefnet.terminal import progress_bar

EXAMPLES = examples(
    "birefnet doctor",
    "birefnet doctor --no-self-test",
    "birefnet doctor --json",
)


def register(app: typer.Typer) -> None:
    app.command(cls=GroupedCommand, epilog=EXAMPLES)(doctor)


def doctor(
    as_json: Json = False,
    self_test: Annotated[
        bool, typer.Option(help="Cut out a small generated picture with the bundled model.")
    ] = True,
) -> None:
    """Show versions, devices, precisions, engines and weights, and test that they work.

    Exit status 1 if something is broken.
    """
    from birefnet.cli.doctor import checks

    with progress_bar("examine", show=not as_json):
        sections = checks.examine(self_test=self_test)
    healthy = all(finding.ok is not False for findings in sections.values() for finding in findings)
    if as_json:
        report = {
            title: {finding.name: finding.to_dict() for finding in findings}
            for title, findings in sections.items()
        }
        typer.echo(json.dumps({"healthy": healthy, **report}, indent=2))
    else:
        _print(sections, healthy)
    if not healthy:
        sys.exit(1)


def _print(sections: dict, healthy: bool) -> None:
    marks = {True: ("ok", typer.colors.GREEN), False: ("broken", typer.colors.RED)}
    for title, findings in sections.items():
        typer.secho(title, bold=True)
        for finding in findings:
            text = f"  {finding.name:<24} {finding.detail}"
            if finding.ok is None:
                typer.echo(text)
            else:
                mark, colour = marks[finding.ok]
                typer.echo(f"{text}  " + typer.style(mark, fg=colour))
    typer.secho(
        "All is well." if healthy else "Something is broken: see the lines above.",
        fg=typer.colors.GREEN if healthy else typer.colors.RED,
    )
