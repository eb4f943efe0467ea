"""``inferway picker``: reads the command line, runs until it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import uvloop

from inferway.base.clock import SystemClock
from inferway.base.ids import RandomIds
from inferway.picker import config_check, config_file, flags
from inferway.picker.run import run

# Letters of the part of a pick id that tells picker processes apart.
IDENTITY_LETTERS = 8


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """The exit code. Raises InferwayError for what the caller can mend."""
    if any(word in {"-h", "--help", "-help"} for word in argv):
        print(flags.usage())
        return 0
    options = flags.parse(argv, env)
    if options.flag("check"):
        print(config_check.summary(config_file.configuration(options)))
        return 0
    options = config_file.with_discovery(options, env)
    config_file.log_notes(options)
    make_policy = partial(config_file.policy, options)
    identity = RandomIds().suffix(IDENTITY_LETTERS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(options, make_policy, env, SystemClock(), identity))
