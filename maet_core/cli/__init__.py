"""The command line: one subcommand a step of the method.

Results go to stdout (`--json`: as one object), progress and errors to stderr. Exit status: 0 success, 2 wrong input (one line),
1 internal fault, 130 or 143 stopped by a signal.
"""

from __future__ import annotations

import atexit
import gc
import signal
import sys
import traceback
from typing import NoReturn

import click

import maet_core
from maet_core.cli import exchange, jobs, learn, look, make, start
from maet_core.cli.evaluate import evaluate
from maet_core.cli.reproduce import reproduce
from maet_core.cli.search import sweep, tune
from maet_core.errors import Cancelled, InputError, Stopped


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(maet_core.__version__, prog_name="maet")
def maet() -> None:
    """Find the neurons that carry an ability, extract it, and add it to a model that speaks another language.

    Start with `maet app`, or on the command line with `maet inspect MODEL`.
    """


for command in (
    look.inspect,
    look.select,
    make.locate,
    learn.train,
    make.pack,
    make.merge,
    start.generate,
    evaluate,
    sweep,
    tune,
    reproduce,
    jobs.jobs,
    exchange.methods,
    exchange.export,
    exchange.import_,
    start.demo,
    start.app,
):
    maet.add_command(command)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs one command and exits with its status."""
    signal.signal(signal.SIGTERM, _terminate)
    atexit.register(gc.freeze)  # to look for garbage in what ends with the process would take a fifth of a second
    try:
        maet.main(arguments, prog_name="maet", standalone_mode=False)
    except click.UsageError as error:
        _leave(2, f"{error.ctx.command_path if error.ctx else 'maet'}: {error.format_message()} (--help shows how)")
    except click.exceptions.Exit as ending:
        sys.exit(ending.exit_code)
    except InputError as error:
        _leave(2, f"maet: {error}")
    except Stopped as stop:
        _leave(128 + signal.SIGTERM, f"maet: {stop}")
    except (Cancelled, KeyboardInterrupt, click.Abort):
        _leave(130, "maet: stopped; nothing was left behind")
    except BrokenPipeError:
        sys.exit(0)  # the reader of our output has had enough
    except Exception:
        traceback.print_exc()
        _leave(1, f"maet {maet_core.__version__}: an internal fault; the lines above say where")
    sys.exit(0)


def _terminate(*_: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def _leave(status: int, message: str) -> NoReturn:
    print(" ".join(message.split()), file=sys.stderr)
    sys.exit(status)
