"""Writes docs/reference/picker-flags.md from the picker's table of flags.

Run by ``make reference``; a test compares the page with what this makes.
"""

from __future__ import annotations

from pathlib import Path

from inferway.picker.flag_table import GROUPS, Flag

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "picker-flags.md"
HEADING = """# Flags of the picker

`inferway picker` takes the command lines of the published pickers, so that their charts and
manifests start it unchanged, and flags of its own. They are written as Go reads them:
`--flag value`,
`--flag=value`, `-flag`; a boolean flag alone is true, and may be followed by `true` or `false` as a
word of its own, because a published chart writes it so. Of a flag that is given twice the last one
counts; lists take commas, and add up. `v1.1` and `llm-d` say which published picker has a flag.

Servers are those of one InferencePool or several (`--pool-name`), Pods by label
(`--endpoint-selector`, `--endpoint-target-ports`), or without Kubernetes a list (`--endpoints`) or
a
file (`--endpoints-file`, or `file-discovery` in the configuration):

```yaml
endpoints:
- name: vllm-0
  address: 10.0.0.1      # IPv4 or IPv6
  port: "8000"
  labels: {llm-d.ai/role: decode}
```

From the environment come `NAMESPACE` (of pools), `POD_NAME` and `POD_NAMESPACE` (of the picker
itself), `INFERWAY_POD_IP`, `INFERWAY_PICK_SOCKET`, `KUBECONFIG`, `OTEL_*`, and for a configuration
without a saturation detector v1.1's thresholds `SD_QUEUE_DEPTH_THRESHOLD`,
`SD_KV_CACHE_UTIL_THRESHOLD` and `SD_METRICS_STALENESS_THRESHOLD`. Flags win.

This page is generated: `make reference`.
"""


def page() -> str:
    """The whole page."""
    parts = [HEADING]
    for title, flags in GROUPS:
        parts.append(f"\n## {title}\n\n| flag | default | of | what |\n|---|---|---|---|\n")
        parts += map(_row, flags)
    return "".join(parts)


def _row(flag: Flag) -> str:
    default = f"`{flag.default}`" if flag.default else ""
    note = f" Accepted, without effect: {flag.without}." if flag.without else ""
    return f"| `--{flag.name}` | {default} | {', '.join(flag.of)} | {flag.help}{note} |\n"


if __name__ == "__main__":
    PAGE.write_text(page())
