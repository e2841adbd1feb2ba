"""Fills a Hugging Face home with tiny random models, under the names and revisions of the pipelines' default models.

So predictors that name no model run unchanged where there is no internet. A program of its own
(`python tiny_hub.py FOLDER`), as what transformers warns of at import is not ours to answer for.
"""

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedTokenizerFast,
)

SPECIAL_TOKENS = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
WORDS = [
    *SPECIAL_TOKENS.values(),
    "a",
    "the",
    "cat",
    "dog",
    "sat",
    "ran",
    "on",
    "mat",
    "and",
    "it",
    "was",
    "good",
    "bad",
]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each word of `WORDS`."""
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],  # DistilBERT takes no others
        model_max_length=64,
        **SPECIAL_TOKENS,
    )


def make_summarizer() -> BartForConditionalGeneration:
    """One layer either way; it ends a summary where it likes, after 24 tokens at most."""
    config = BartConfig(
        vocab_size=len(WORDS),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=64,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=2,
    )
    model = BartForConditionalGeneration(config)
    model.generation_config.max_length = 24  # 20 would read as "not set", and make it 256 new tokens
    return model


def make_classifier() -> DistilBertForSequenceClassification:
    """Two labels: NEGATIVE and POSITIVE."""
    labels = ["NEGATIVE", "POSITIVE"]
    config = DistilBertConfig(
        vocab_size=len(WORDS),
        dim=16,
        n_layers=1,
        n_heads=2,
        hidden_dim=32,
        max_position_embeddings=64,
        pad_token_id=1,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    )
    return DistilBertForSequenceClassification(config)


def save(model: torch.nn.Module, hub: Path, name: str, revision: str) -> None:
    """Lay the model out as the hub's client would have, had it downloaded it."""
    repository = hub / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / revision
    model.save_pretrained(snapshot)
    make_tokenizer().save_pretrained(snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)


def main(home: Path) -> None:
    """Write both models; the revisions are those that transformers 4 pins for its default models."""
    torch.manual_seed(0)
    save(make_summarizer(), home / "hub", "sshleifer/distilbart-cnn-12-6", "a4f8f3e")
    save(make_classifier(), home / "hub", "distilbert/distilbert-base-uncased-finetuned-sst-2-english", "714eb0f")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
