"""The command ``claude-executor simulate``."""

import asyncio
import signal
from dataclasses import replace

import click

from claude_executor.simulator.world.faults import PROBABILITIES, SPANS, SWITCHES, Faults
from claude_executor.simulator.world.models import TIERS, Rates
from claude_executor.simulator.world.settings import Latency, Lengths, Settings

_FAULTS = f"""\
\b
Faults (change them while the simulator runs with POST /simulator/faults):

Probability per request, from 0 to 1: {", ".join(PROBABILITIES)}.

Duration in seconds, or true for no end: {", ".join(SPANS)}.

true to fail every request: {", ".join(SWITCHES)}.

Details, with examples: slow_first_byte_seconds=30, outage_retry_after=5, outage_pools='["haiku-4.5"]',
neighbours='{{"input_tokens": 0.5}}' (the fraction of each limit that other users take),
rates='{{"rpm": 50}}' (limits that replace those of the options),
ramp='{{"floor": 25000, "step": 70000}}' (the ramp limit, in input tokens per minute).
"""


def _read_faults(words: tuple[str, ...]) -> Faults:
    """Parse ``name=value`` words; the value is a number, ``true``, ``false`` or other JSON."""
    import orjson

    changes: dict[str, object] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign:
            raise click.BadParameter(f"{word!r} has no value (example: error_500=0.01)", param_hint="--fault")
        try:
            changes[name.replace("-", "_")] = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise click.BadParameter(
                f"{word!r}: the value is neither a number nor JSON (examples: 0.01, true, '[\"haiku-4.5\"]')",
                param_hint="--fault",
            ) from error
    try:
        return Faults().changed(changes)
    except (ValueError, TypeError) as error:
        raise click.BadParameter(str(error), param_hint="--fault") from error


def _read_settings(options: dict[str, object]) -> Settings:
    tier = options["tier"]
    limits = {name: options[name] for name in ("rpm", "itpm", "otpm")}
    given = {name: int(str(value)) or None for name, value in limits.items() if value is not None}
    rates: Rates | dict[str, Rates]
    if tier is None:
        rates = Rates(**given) if given else Rates(1_000, 2_000_000, 400_000)
    else:
        rates = {pool: replace(its, **given) for pool, its in TIERS[str(tier)].items()}
    settings = Settings.strict(rates) if options["profile"] == "strict" else Settings.lenient(rates)
    return replace(
        settings,
        burst=float(str(options["burst"])),
        latency=Latency(
            float(str(options["latency"])), float(str(options["speed"])), float(str(options["spread"]))
        ),
        output_tokens=Lengths(float(str(options["output_tokens"]))),
        headers=bool(options["headers"]),
        seed=int(str(options["seed"])),
    )


@click.command(epilog=_FAULTS)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=0, help="Port to listen on; 0 picks a free one."
)
@click.option("--tier", type=click.Choice(list(TIERS)), help="Use the limits of a usage tier.")
@click.option("--rpm", type=click.IntRange(0), help="Requests per minute; 0 for no limit.")
@click.option("--itpm", type=click.IntRange(0), help="Input tokens per minute; 0 for no limit.")
@click.option("--otpm", type=click.IntRange(0), help="Output tokens per minute; 0 for no limit.")
@click.option(
    "--profile",
    type=click.Choice(["lenient", "strict"]),
    default="lenient",
    show_default=True,
    help="strict also limits requests per second (RPM / 60).",
)
@click.option(
    "--burst",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    help="Burst size, in seconds of each limit.",
)
@click.option(
    "--latency",
    type=click.FloatRange(0),
    default=0.5,
    show_default=True,
    help="Seconds until the first token.",
)
@click.option(
    "--speed",
    type=click.FloatRange(0, min_open=True),
    default=80.0,
    show_default=True,
    help="Output tokens per second; inf for all at once.",
)
@click.option(
    "--spread",
    type=click.FloatRange(0),
    default=0.2,
    show_default=True,
    help="Relative spread of latency and speed.",
)
@click.option(
    "--output-tokens",
    type=click.FloatRange(1),
    default=200.0,
    show_default=True,
    help="Mean length of answers, in tokens.",
)
@click.option(
    "--headers/--no-headers", default=True, show_default=True, help="Send anthropic-ratelimit headers."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random numbers.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME=VALUE",
    help="Inject a fault, such as error_500=0.01 or outage=true; see below. Repeat for several.",
)
def simulate(host: str, port: int, faults: tuple[str, ...], **options: object) -> None:
    """Run a local simulator of the Claude API.

    Prints its base URL, then serves until you press Ctrl-C. Any API key works.
    """
    # Imported here, so that --help does not wait for an HTTP server.
    from claude_executor.simulator.app import Simulator
    from claude_executor.simulator.server.server import build_server, listen, url_of

    simulator = Simulator(_read_settings(options), faults=_read_faults(faults))
    try:
        listener = listen(host, port)
    except OSError as error:
        raise click.ClickException(
            f"Cannot listen on {host}:{port}: {error.strerror}. Choose another address with --host or --port."
        ) from error
    server = build_server(simulator, handle_signals=False)

    async def serve() -> None:
        # uvicorn would raise the signal again once it has stopped, and the exit code would not be 0.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, setattr, server, "should_exit", True)
        click.echo(url_of(listener))
        await server.serve(sockets=[listener])

    with listener:
        asyncio.run(serve())
