"""Makes the table of protobuf field numbers that the embedded API server reads requests with.

Method: Kubernetes' Go types carry the number, the JSON name and the wire type of each field in
struct tags; this reads the published modules k8s.io/api and k8s.io/apimachinery (two folders are
the arguments) and writes numbers and names only.

    go mod download -json k8s.io/api@v0.37.2 k8s.io/apimachinery@v0.37.2
    python tools/generate_wire_fields.py API_FOLDER APIMACHINERY_FOLDER
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "src/inferway/local/apiserver/http/_gen/wire.json"
PACKAGES = (
    "core/v1",
    "apps/v1",
    "authentication/v1",
    "authorization/v1",
    "autoscaling/v1",
    "autoscaling/v2",
    "batch/v1",
    "coordination/v1",
    "discovery/v1",
    "events/v1",
    "networking/v1",
    "policy/v1",
    "rbac/v1",
)
META = "k8s.io/apimachinery/pkg/apis/meta/v1"
# Messages with a JSON form of their own; the decoder knows them by these names.
SPECIAL = {
    "k8s.io/apimachinery/pkg/api/resource.Quantity": "quantity",
    "k8s.io/apimachinery/pkg/util/intstr.IntOrString": "intorstring",
    "k8s.io/apimachinery/pkg/runtime.RawExtension": "raw",
    f"{META}.Time": "time",
    f"{META}.MicroTime": "microtime",
    f"{META}.Duration": "duration",
    f"{META}.FieldsV1": "raw",
}
SCALARS = {
    "string": "string",
    "bool": "bool",
    "int": "int",
    "int32": "int",
    "int64": "int",
    "uint32": "int",
    "uint64": "int",
    "float64": "double",
    "[]byte": "bytes",
    "byte": "int",
}
_STRUCT = re.compile(r"^type (\w+) struct \{$(.*?)^\}", re.MULTILINE | re.DOTALL)
_ALIAS = re.compile(r"^type (\w+) (=? ?[\w.\[\]*]+)(?:\s*//.*)?$", re.MULTILINE)
_FIELD = re.compile(r"^\s*(?:(\w+)\s+)?([\w.\[\]*]+)\s+`([^`]*)`", re.MULTILINE)
_IMPORT = re.compile(r'^\s*(?:(\w+)\s+)?"([^"]+)"$', re.MULTILINE)


@dataclass
class Package:
    path: str
    imports: dict[str, str] = field(default_factory=dict)
    structs: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)


def read(path: str, folder: Path) -> Package:
    package = Package(path)
    for file in sorted(folder.glob("*.go")):
        if file.name.startswith("zz_") or file.name.startswith("generated"):
            continue
        text = file.read_text()
        if file.name.endswith("_test.go"):
            continue
        block = re.search(r"^import \((.*?)^\)", text, re.MULTILINE | re.DOTALL)
        for alias, target in _IMPORT.findall(block[1] if block else ""):
            package.imports[alias or target.rsplit("/", 1)[-1]] = target
        package.structs |= dict(_STRUCT.findall(text))
        package.aliases |= {
            name: target for name, target in _ALIAS.findall(text) if target != "struct"
        }
    return package


class Table:
    def __init__(self, packages: dict[str, Package], api: Path) -> None:
        self.packages = packages
        self.api = api
        self.messages: dict[str, dict[str, list[object]]] = {}

    def package(self, path: str) -> Package:
        if path not in self.packages:
            self.packages[path] = read(path, self.api / path.removeprefix("k8s.io/api/"))
        return self.packages[path]

    def resolve(self, package: Package, text: str) -> list[str]:
        """``[shape, ...]`` of a Go type: scalar, message NAME, or map VALUE."""
        if text in SCALARS:
            return [SCALARS[text]]
        if text.startswith("map["):
            value = text[text.index("]") + 1 :]
            return ["map", *self.resolve(package, value.lstrip("*"))]
        head, _, name = text.rpartition(".")
        home = package
        if head:
            path = package.imports[head]
            if f"{path}.{name}" in SPECIAL:
                return [SPECIAL[f"{path}.{name}"]]
            if path == "k8s.io/apimachinery/pkg/types":
                return ["string"]
            home = self.package(path)
        elif f"{package.path}.{name}" in SPECIAL:
            return [SPECIAL[f"{package.path}.{name}"]]
        if name in home.structs:
            return ["message", self.message(home, name)]
        target = home.aliases[name].lstrip("= ")
        if target.startswith("[]") and target != "[]byte":
            item = self.resolve(home, target[2:].lstrip("*"))
            return ["items", *item]
        return self.resolve(home, target)

    def message(self, package: Package, name: str) -> str:
        full = f"{package.path}.{name}"
        if full in self.messages:
            return full
        fields: dict[str, list[object]] = {}
        self.messages[full] = fields
        for _, go_type, tags in _FIELD.findall(package.structs[name]):
            wire = re.search(r'protobuf:"(\w+),(\d+),(\w+)', tags)
            described = re.search(r'json:"([^"]*)"', tags)
            if wire is None or described is None:
                continue
            json_name, *options = described[1].split(",")
            pointer = go_type.startswith("*")
            repeated = go_type.startswith("[]") and go_type != "[]byte"
            inner = go_type.lstrip("*").removeprefix("[]") if repeated else go_type.lstrip("*")
            kept = pointer or "omitempty" not in options
            shape = self.resolve(package, inner.lstrip("*"))
            if repeated and shape == ["int"] and go_type == "[]byte":
                shape, repeated = ["bytes"], False
            fields[wire[2]] = [json_name, "repeated" if repeated else "", kept, *shape]
        return full


def main() -> None:
    api, machinery = (Path(argument) for argument in sys.argv[1:3])
    packages = {META: read(META, machinery / "pkg/apis/meta/v1")}
    for path in PACKAGES:
        packages[f"k8s.io/api/{path}"] = read(f"k8s.io/api/{path}", api / path)
    table = Table(packages, api)
    kinds = {}
    for path in PACKAGES:
        package = packages[f"k8s.io/api/{path}"]
        group, version = path.split("/")
        register = (api / path / "register.go").read_text()
        found = re.search(r'GroupName = "([^"]*)"', register)
        group = found[1] if found else ""
        api_version = f"{group}/{version}" if group else version
        for name, body in package.structs.items():
            if "metav1.TypeMeta" in body and not name.endswith("List"):
                kinds[f"{api_version} {name}"] = table.message(package, name)
    kinds["v1 DeleteOptions"] = table.message(packages[META], "DeleteOptions")
    names = {full: str(number) for number, full in enumerate(sorted(table.messages))}
    messages = {
        names[full]: {
            number: [
                names.get(str(part), part) if i == len(entry) - 1 else part
                for i, part in enumerate(entry)
            ]
            for number, entry in fields.items()
        }
        for full, fields in sorted(table.messages.items())
    }
    document = {
        "kinds": {kind: names[full] for kind, full in sorted(kinds.items())},
        "messages": messages,
    }
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(json.dumps(document, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
