"""The configuration document."""

from __future__ import annotations

from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from inferway.base.errors import InferwayError
from inferway.lora.config import ADAPTERS_MAX, CONFIG_BYTES_MAX, Config, parse
from inferway.lora.reasons import Reason
from inferway.lora.source import Adapter

GUIDE = """
vLLMLoRAConfig:
  name: vllm-llama3-8b-instruct
  port: 8000
  ensureExist:
    models:
    - base-model: Qwen/Qwen2.5-1.5B
      id: food-review
      source: SriSanth2345/Qwen-1.5B-Tweet-Generations
    - base-model: Qwen/Qwen2.5-1.5B
      id: cad-fabricator
      source: SriSanth2345/Qwen-1.5B-Tweet-Generations
"""


def document(**body: object) -> str:
    return yaml.safe_dump({"vLLMLoRAConfig": body})


def models(*entries: dict[str, object]) -> dict[str, object]:
    return {"models": list(entries)}


def test_the_guides_document() -> None:
    parsed = parse(GUIDE)
    source = "SriSanth2345/Qwen-1.5B-Tweet-Generations"
    assert parsed.warnings == ()
    assert parsed.config == Config(
        host="localhost",
        port=8000,
        name="vllm-llama3-8b-instruct",
        wanted=(
            Adapter("food-review", source, "Qwen/Qwen2.5-1.5B"),
            Adapter("cad-fabricator", source, "Qwen/Qwen2.5-1.5B"),
        ),
    )


def test_defaults() -> None:
    assert parse("vLLMLoRAConfig: {}").config == Config()
    assert parse(document(ensureExist=None, ensureNotExist={})).config == Config()


def test_the_default_base_model_stands_in() -> None:
    text = document(
        defaultBaseModel="base",
        ensureExist=models(
            {"id": "a", "source": "s"}, {"id": "b", "source": "s", "base-model": "other"}
        ),
    )
    assert [a.base_model for a in parse(text).config.wanted] == ["base", "other"]


def test_an_id_in_both_lists_is_left_alone_with_a_warning() -> None:
    text = document(
        ensureExist=models({"id": "a", "source": "s"}, {"id": "b", "source": "s"}),
        ensureNotExist=models({"id": "b", "source": "s"}, {"id": "c"}),
    )
    config = parse(text).config
    assert [a.id for a in config.wanted] == ["a"]
    assert config.unwanted == ("c",)
    ((name, problem),) = config.skipped
    assert (name, problem.reason) == ("b", Reason.IN_BOTH_LISTS)
    assert config.names() == {"a", "b", "c"}


def test_an_id_twice_with_different_entries_is_left_alone_and_the_rest_goes_on() -> None:
    text = document(
        ensureExist=models(
            {"id": "a", "source": "s"}, {"id": "b", "source": "s"}, {"id": "a", "source": "t"}
        )
    )
    config = parse(text).config
    assert [a.id for a in config.wanted] == ["b"]
    assert [(name, p.reason) for name, p in config.skipped] == [("a", Reason.DUPLICATE_NAME)]


def test_an_id_twice_with_equal_entries_is_one() -> None:
    text = document(ensureExist=models({"id": "a", "source": "s"}, {"id": "a", "source": "s"}))
    parsed = parse(text)
    assert [a.id for a in parsed.config.wanted] == ["a"]
    assert "adapter a is twice" in parsed.warnings[0]


def test_a_checksum_belongs_to_an_archive() -> None:
    checksum = "sha256:" + "Ab" * 32
    entry = {"id": "a", "source": "https://example.com/a.tgz", "checksum": checksum}
    (adapter,) = parse(document(ensureExist=models(entry))).config.wanted
    assert adapter.checksum == checksum.lower()


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        (document(hots="x"), "vLLMLoRAConfig", "the key hots is not known; did you mean host?"),
        ("vLLMLoRAConfig: {}\nother: 1\n", "document", "the key other is not known"),
        (document(ensureExist={"modles": []}), "vLLMLoRAConfig.ensureExist", "did you mean models"),
        (document(ensureExist=models({"id": "a", "source": "s", "sauce": 1})),
         "vLLMLoRAConfig.ensureExist.models[0]", "did you mean source?"),
        (document(ensureExist=models({"id": "a", "source": "ftp://host/a.tar"})),
         "vLLMLoRAConfig.ensureExist.models[0].source", "ftp:// is not among"),
        (document(ensureExist=models({"id": "a", "source": "repo/a", "checksum": "sha256:0"})),
         "vLLMLoRAConfig.ensureExist.models[0].checksum", "64 hexadecimal digits"),
        (document(ensureExist=models(
            {"id": "a", "source": "repo/a", "checksum": "sha256:" + "0" * 64})),
         "vLLMLoRAConfig.ensureExist.models[0].checksum", "this source is none"),
        (document(ensureExist=models({"id": "a\nb", "source": "s"})),
         "vLLMLoRAConfig.ensureExist.models[0].id", "printable"),
        (document(ensureExist=models({"id": "a", "source": "s\0"})),
         "vLLMLoRAConfig.ensureExist.models[0].source", "printable"),
        (document(ensureExist={"models": [{}] * (ADAPTERS_MAX + 1)}),
         "vLLMLoRAConfig.ensureExist.models", "at most"),
        ("#" * (CONFIG_BYTES_MAX + 1), "document", "larger than"),
        ("a: &a [*a]", "document", "the root key vLLMLoRAConfig is missing"),
        ("vLLMLoRAConfig: &a\n  host: *a", "vLLMLoRAConfig.host", "must be a text"),
        ("vLLMLoRAConfig: {port: '8٣'}", "vLLMLoRAConfig.port", "must be a port"),
        (document(host="http://x"), "vLLMLoRAConfig.host", "must be a name or an address"),
        ("", "document", "must be a mapping, not empty"),
        ("[]", "document", "must be a mapping, not a list"),
        ("a: 1", "document", "the root key vLLMLoRAConfig is missing"),
        ("a: [", "line 1", "not YAML"),
        ("a: 1\n b: 2\n", "line 2", "not YAML"),
        ("vLLMLoRAConfig: 5", "vLLMLoRAConfig", "must be a mapping, not 5"),
        ("vLLMLoRAConfig:", "vLLMLoRAConfig", "must be a mapping, not empty"),
        (document(port="http"), "vLLMLoRAConfig.port", "must be a port"),
        (document(port=0), "vLLMLoRAConfig.port", "must be a port"),
        (document(port=True), "vLLMLoRAConfig.port", "must be a port"),
        (document(host=5), "vLLMLoRAConfig.host", "must be a text, not 5"),
        (document(ensureExist=[]), "vLLMLoRAConfig.ensureExist", "not a list"),
        (document(ensureExist={"models": {}}), "vLLMLoRAConfig.ensureExist.models",
         "must be a list, not a mapping"),
        (document(ensureExist=models({"source": "s"})),
         "vLLMLoRAConfig.ensureExist.models[0].id", "is required"),
        (document(ensureExist=models({"id": "a", "source": "s"}, {"id": "b"})),
         "vLLMLoRAConfig.ensureExist.models[1].source", "is required"),
        (document(ensureNotExist=models({"source": "s"})),
         "vLLMLoRAConfig.ensureNotExist.models[0].id", "is required"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(text: str, where: str, what: str) -> None:
    with pytest.raises(InferwayError) as caught:
        parse(text)
    error = caught.value
    assert error.code == "INFERWAY0602"
    assert error.about == where
    assert what in error.what


@given(st.text(max_size=80))
def test_any_text_is_a_configuration_or_one_clear_error(text: str) -> None:
    with suppress(InferwayError):
        assert parse(text).config.port >= 1
