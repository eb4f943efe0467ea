"""Makes a small random Qwen2 with a tokenizer, and LoRA adapters for it, in a folder.

    PYTHON_WITH_VLLM make_random_model.py FOLDER

Runs in an environment with torch, transformers and peft, not in the project's own. Heads are 32
wide, because vLLM's attention on CPUs refuses 16.
"""

import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

VOCABULARY = 512
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXT = Path(__file__).read_text()
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
RANKS = {"food-review": 8, "cad-fabricator": 8, "third": 8, "rank64": 64}


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on this very file."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trained.train_from_iterator(
        TEXT.splitlines(),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=SPECIALS,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    found = PreTrainedTokenizerFast(
        tokenizer_object=trained, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    found.chat_template = TEMPLATE
    return found


def main(folder: Path) -> None:
    """Writes model, adapters, an empty adapter folder and a broken one."""
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=4096,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = folder / "model"
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(model)
    tokenizer().save_pretrained(model)
    for name, rank in RANKS.items():
        lora = LoraConfig(
            r=rank,
            lora_alpha=16,
            target_modules=["q_proj", "v_proj"],
            task_type="CAUSAL_LM",
            init_lora_weights=False,
        )
        base = Qwen2ForCausalLM(config).to(torch.bfloat16)
        adapter = get_peft_model(base, lora)
        adapter.peft_config["default"].base_model_name_or_path = str(model)
        adapter.save_pretrained(folder / "adapters" / name)
    (folder / "adapters" / "empty").mkdir()
    (folder / "adapters" / "broken").mkdir()
    (folder / "adapters" / "broken" / "adapter_config.json").write_text('{"a": \n')


if __name__ == "__main__":
    main(Path(sys.argv[1]))
