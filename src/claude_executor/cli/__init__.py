"""The command line. Every command is a module of its own and is imported when it is asked for.

What people read goes to stderr, what programs read to stdout. Settings: flag, then environment, then default.
"""

import importlib
import os
import sys
from contextlib import suppress
from typing import NoReturn

import click

from claude_executor.cli.terminal.exits import BAD_INPUT, INTERRUPTED, OK, SOME_FAILED

_EPILOG = """\
Exit codes: 0 all rows answered; 1 some rows failed; 2 usage or bad input; 3 no access to the API (key,
billing, spend limit, host not reached); 4 budget, token cap or deadline reached; 129, 130, 143 interrupted.
"""

_COMMANDS = {
    "demo": ("claude_executor.cli.commands.demo", "Watch it work: no key, no network, half a minute."),
    "run": ("claude_executor.cli.commands.run", "Send every row of a file."),
    "report": ("claude_executor.cli.commands.report", "Tell in pictures what a job was like."),
    "retry": ("claude_executor.cli.commands.run", "Send the rows that failed once more."),
    "limits": ("claude_executor.cli.commands.limits", "Show the limits in force, and where each comes from."),
    "serve": ("claude_executor.cli.commands.serve", "Serve a gateway, for SDKs in any language."),
    "simulate": ("claude_executor.simulator.server.command", "Serve an imitation of the Claude API."),
}


class _Lazy(click.Group):
    """A group that knows its commands by name, so that asking for help imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        from claude_executor.cli.terminal.signals import ending_at_once

        with ending_at_once():
            command = getattr(importlib.import_module(_COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in _COMMANDS.items()])


@click.group(
    cls=_Lazy,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="claude-executor", message="%(prog)s %(version)s")
def cli() -> None:
    """Push any number of Claude requests through one organisation's rate limits.

    As fast as they allow and no faster, losing none and paying for none twice.
    """


def main() -> NoReturn:
    """Run the command line, and end the process with its exit code. No mistake ends in a traceback."""
    try:
        code = cli.main(prog_name="claude-executor", standalone_mode=False)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx is not None else "claude-executor"
        _say(f"Error: {error.format_message()} (see {command} --help)")
        code = BAD_INPUT
    except click.ClickException as error:
        _say(f"Error: {error.format_message()}")
        code = error.exit_code
    except OSError as error:  # of a file of its own a command tells more
        _say(f"Error: {error.filename or 'standard output'}: {error.strerror}; mend that, and call it again")
        _forget_output()
        code = SOME_FAILED
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted")
        code = INTERRUPTED
    sys.exit(code if isinstance(code, int) else OK)


def _forget_output() -> None:
    """Drop what could not be written on standard output, or the interpreter tries again when it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(sentence: str) -> None:
    """To whom it may concern: the exit code is the same if nobody reads it."""
    with suppress(OSError):
        click.echo(sentence, err=True)
