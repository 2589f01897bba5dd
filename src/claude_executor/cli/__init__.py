"""The command line. Every command is a module of its own, imported when the command is used.

Text for people goes to stderr, data for programs to stdout. Precedence: flag, environment variable, default.
"""

import importlib
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from typing import NoReturn

import click

from claude_executor.cli.terminal.exits import BAD_INPUT, INTERRUPTED, OK, SOME_FAILED, reason

_EPILOG = """\
Exit codes: 0 all rows succeeded; 1 some rows failed; 2 wrong usage or bad input; 3 no access to the API (key,
billing, spend limit, network); 4 cost cap, token cap or deadline reached; 129, 130, 143 interrupted.
"""

_COMMANDS = {
    "demo": ("claude_executor.cli.commands.demo", "Watch a run against a simulated API, offline."),
    "run": ("claude_executor.cli.commands.run", "Send every row of a file."),
    "report": ("claude_executor.cli.commands.report", "Create an HTML report of a run."),
    "retry": ("claude_executor.cli.commands.run", "Retry rows that failed."),
    "limits": ("claude_executor.cli.commands.limits", "Show your rate limits and their sources."),
    "serve": ("claude_executor.cli.commands.serve", "Start a gateway for SDKs in any language."),
    "simulate": ("claude_executor.simulator.server.command", "Start a simulator of the Claude API."),
}


class _LazyGroup(click.Group):
    """A group that imports a command when it is used, so that ``--help`` imports none."""

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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-"):
            ctx.fail(f"No such command {name!r}.{_hint(name, _COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in _COMMANDS.items()])


@click.group(
    cls=_LazyGroup,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="claude-executor", message="%(prog)s %(version)s")
def cli() -> None:
    """Run any number of Claude requests at the maximum speed your rate limits allow, without losing one."""


def main() -> NoReturn:
    """Run the command line, and end the process with its exit code. No mistake ends in a traceback."""
    try:
        # Without arguments it prints the help, which is not an error.
        code = cli.main(sys.argv[1:] or ["--help"], prog_name="claude-executor", standalone_mode=False)
    except click.UsageError as error:
        message = error.format_message()
        if isinstance(error, click.NoSuchOption):
            message = (
                f"No such option {error.option_name!r}.{_hint(error.option_name, error.possibilities or ())}"
            )
        command = error.ctx.command_path if error.ctx is not None else "claude-executor"
        _say(f"Error: {message} (see {command} --help)")
        code = BAD_INPUT
    except click.ClickException as error:
        _say(f"Error: {error.format_message()}")
        code = error.exit_code
    except OSError as error:  # commands report errors of their own files in more detail
        _say(f"Error: {error.filename or 'standard output'}: {reason(error)}")
        _forget_output()
        code = SOME_FAILED
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted")
        code = INTERRUPTED
    sys.exit(code if isinstance(code, int) else OK)


def _hint(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def _forget_output() -> None:
    """Discard buffered output; otherwise the interpreter tries to write it again at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(sentence: str) -> None:
    """Print on stderr. A closed stderr does not change the exit code."""
    with suppress(OSError):
        click.echo(sentence, err=True)
