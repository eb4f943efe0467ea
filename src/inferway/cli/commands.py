"""The commands people type, with their help; the work is done in the module named after each."""

from __future__ import annotations

import os
import sys

import click

from inferway import __version__
from inferway.base.errors import UsageError

STATE_HELP = "The stack's folder (default: $XDG_STATE_HOME/inferway)."


def run(words: list[str]) -> int:
    """Parses and runs; returns the exit code."""
    try:
        result = cli.main(args=words, prog_name="inferway", standalone_mode=False)
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        error.show(file=sys.stderr)
        return 2
    return result if isinstance(result, int) else 0


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "INFERWAY"},
    no_args_is_help=True,
)
def cli() -> None:
    """An inference gateway for Kubernetes and for one machine.

    \b
    Start a whole stack here:       inferway up
    See how it is:                  inferway status
    Try a manifest without one:     inferway translate -f gateway.yaml
    """


@cli.command()
@click.option("--state", metavar="DIR", help=STATE_HELP)
@click.option("--empty", is_flag=True, help="Start a cluster with nothing in it.")
@click.option(
    "--node-capacity",
    metavar="cpu=N,memory=Q",
    help="What the node claims to have (default: what the machine has).",
)
@click.option(
    "--timeout",
    type=click.IntRange(min=1),
    metavar="SECONDS",
    help="How long to wait for the demo before saying what is missing "
    "(default: 120, with real vLLM 900).",
)
@click.option("--images", metavar="FILE", help="Further image mappings (YAML).")
@click.option(
    "--runtime",
    type=click.Choice(["process", "podman", "docker"]),
    default="process",
    show_default=True,
    help="What runs images: programs of this machine, or containers.",
)
@click.option(
    "--engine",
    type=click.Choice(["simulator", "vllm", "auto"]),
    default="simulator",
    show_default=True,
    help="What runs for images of vLLM: simulated servers, the vLLM that `inferway vllm install` "
    "installed, or that one where it is there and memory suffices.",
)
@click.option(
    "--model",
    multiple=True,
    metavar="MODEL",
    help="With real vLLM: what to serve. A model folder, a Hugging Face name (downloaded), or "
    "NAME=FOLDER: the name of a manifest and the folder that answers for it. Repeatable.",
)
def up(**options: object) -> int:
    """Start everything on this machine; Ctrl-C stops it all.

    \b
    inferway up                                   the demo: gateway, picker, 3 model servers
    inferway up --empty                           a cluster to follow a guide in
    inferway up --engine vllm                     the demo with one real vLLM
    inferway up --state /tmp/second --empty       another one beside it
    """
    from inferway.cli import up as command

    return command.run(command.UpOptions(**options), os.environ)  # type: ignore[arg-type]


@cli.command()
@click.option("--state", metavar="DIR", help=STATE_HELP)
def down(state: str | None) -> int:
    """Stop the stack that runs from a state folder."""
    from inferway.cli import down as command

    return command.run(state, os.environ)


@cli.command()
@click.option("--state", metavar="DIR", help=STATE_HELP)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def status(state: str | None, output: str) -> int:
    """Say how the stack is and where to reach it. Exit code 0 means ready."""
    from inferway.cli import status as command

    return command.run(state, output, os.environ)


@cli.group()
def vllm() -> None:
    """Real vLLM on this machine, for `inferway up --engine vllm`."""


@vllm.command()
@click.option(
    "--python",
    metavar="PATH",
    help="The Python of an environment that has vLLM already, in place of a new one.",
)
def install(python: str | None) -> int:
    """Install vLLM for CPUs, a small language model and two adapters (6 GB).

    Everything goes into $INFERWAY_VLLM_HOME, by default $XDG_DATA_HOME/inferway/vllm, which all
    stacks and clones of a user share. Run it again after an interruption: it goes on.
    """
    from inferway.cli.vllm import install as command

    return command.run(command.InstallOptions(python), os.environ)


@cli.command()
@click.option("--state", metavar="DIR", help=STATE_HELP)
@click.option("--images", "file", metavar="FILE", help="Further image mappings (YAML).")
@click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text")
@click.argument("image", required=False)
@click.argument("args", nargs=-1)
def images(
    state: str | None, file: str | None, output: str, image: str | None, args: tuple[str, ...]
) -> int:
    """Show which program stands for which container image.

    \b
    inferway images                                       the table, in the order that counts
    inferway images vllm/vllm-openai:v0.10.2              what runs for one image
    inferway images vllm/vllm-openai -- --model MODEL     the same with args of a container
    """
    from inferway.cli import images as command

    return command.run(command.Question(state, file, image, args), output, os.environ)


@cli.command()
@click.option("-f", "--filename", "files", multiple=True, required=True, metavar="FILE")
@click.option(
    "--to",
    default="ir,xds,status",
    show_default=True,
    metavar="LIST",
    help="What to print: ir, xds, status.",
)
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml")
def translate(files: tuple[str, ...], to: str, output: str) -> int:
    """Show what manifests become, without a cluster.

    \b
    inferway translate -f gateway.yaml -f routes.yaml --to xds
    kubectl get gateways,httproutes,services -A -o yaml | inferway translate -f -
    """
    from inferway.cli import translate as command

    wanted = [part.strip() for part in to.split(",") if part.strip()]
    unknown = sorted(set(wanted) - {"ir", "xds", "status"})
    if unknown:
        raise UsageError(
            "INFERWAY0106", f"--to does not know {', '.join(unknown)}", fix="Use ir, xds, status."
        )
    return command.run(list(files), wanted, output)


@cli.command()
@click.argument("url")
@click.option("--model", metavar="NAME", help="A base model of the server (default: its first).")
@click.option(
    "--prompts",
    type=click.IntRange(10, 30),
    default=30,
    show_default=True,
    help="How many prompts to send.",
)
@click.option("-o", "--output", metavar="FILE", help="Where the profile goes (default: stdout).")
@click.option("--force", is_flag=True, help="Write the profile even if the machine was busy.")
def calibrate(url: str, model: str | None, prompts: int, output: str | None, force: bool) -> int:
    """Measure a running vLLM and write a speed profile for `inferway simulator`.

    \b
    inferway calibrate http://127.0.0.1:8000 -o mine.yaml
    inferway simulator --profile mine.yaml
    """
    from inferway.cli import calibrate as command

    return command.run(url, model, prompts, output, force=force)


@cli.command()
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def version(output: str) -> int:
    """Print the versions of Inferway, Python and Envoy."""
    from inferway.cli import version as command

    return command.run(__version__, output)
