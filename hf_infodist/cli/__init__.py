"""The command line: parse, call, show. The only package that prints."""

import atexit
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from hf_infodist.cli import families, many, pair, tools
from hf_infodist.cli.atlas import atlas
from hf_infodist.cli.matrix import matrix
from hf_infodist.cli.options import Interrupted
from hf_infodist.cli.publish import publish
from hf_infodist.cli.results import results
from hf_infodist.cli.start import leave_group
from hf_infodist.cli.terminal import interrupted, log_to_standard_error, report, speak_as, speak_plainly
from hf_infodist.cli.transfer import transfer
from hf_infodist.environment import keep_freed_memory, set_environment

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def infodist(
    version: Annotated[
        bool, typer.Option("--version", callback=tools.tell_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Measure how much information turns one image classifier into another.

    Exit codes: 0 done; 2 usage; 3 not found or offline; 4 inputs that do not fit; 5 out of memory, disk or time; 130
    interrupted. Add --debug to any command to see a traceback.

    Example: infodist compare demo:cnn demo:vit -i digits -k 400
    """


app.command(context_settings={"allow_extra_args": True})(pair.compare)  # which says who takes more models
for command in (
    matrix,
    pair.baselines,
    many.complexity,
    many.nearest,
    transfer,
    families.lineage,
    families.ensemble,
    pair.demo,
    pair.estimate,
    many.card,
    tools.env,
):
    app.command()(command)
app.command("map")(many.map_models)
app.command("show")(tools.show_page)
app.command(context_settings={"allow_interspersed_args": False})(tools.study)
app.add_typer(atlas, name="atlas")
app.add_typer(results, name="results")
app.add_typer(publish, name="publish")


def main(argv: list[str] | None = None) -> None:
    """Run the command line; turn errors into three lines and an exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    speak_as("human")
    speak_plainly()
    set_environment()
    keep_freed_memory()
    atexit.register(gc.freeze)  # else all that was loaded is searched for garbage at the end, for 2 s
    log_to_standard_error()
    run: Callable[..., Any] = typer.main.get_command(app)
    name = "hf infodist" if Path(sys.argv[0]).stem == "hf-infodist" else "infodist"
    try:
        run([word for word in words if word != "--debug"], prog_name=name, obj=words)
    except (Interrupted, KeyboardInterrupt):
        sys.exit(interrupted())
    except Exception as error:
        if "--debug" in words:
            raise
        sys.exit(report(error))
    finally:
        leave_group()
