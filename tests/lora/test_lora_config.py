"""The configuration document."""

from __future__ import annotations

from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from inferway.base.errors import InferwayError
from inferway.lora.config import Adapter, Config, parse

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
    parsed = parse(text)
    assert [a.id for a in parsed.config.wanted] == ["a"]
    assert parsed.config.unwanted == ("c",)
    (warning,) = parsed.warnings
    assert "adapter b is in ensureExist and in ensureNotExist" in warning


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (document(hots="x"), "unknown key hots in vLLMLoRAConfig is ignored"),
        ("vLLMLoRAConfig: {}\nother: 1\n", "unknown key other in document is ignored"),
        (document(ensureExist={"modles": []}), "unknown key modles"),
        (document(ensureExist=models({"id": "a", "source": "s", "sauce": 1})), "sauce"),
        (document(ensureExist=models({"id": "a", "source": "s"}, {"id": "a", "source": "t"})),
         "adapter a is twice"),
    ],
)  # fmt: skip
def test_odd_things_are_warnings(text: str, warning: str) -> None:
    parsed = parse(text)
    assert len(parsed.warnings) == 1
    assert warning in parsed.warnings[0]


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
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
