"""Folders of two small decoders' configurations, and text for them: what `coldpress train` begins with.

    python benchmarks/decoder_models.py --sentences DIR/sst2 --out decoders

`decoders/llama` and `decoders/gpt2` hold a `config.json` each: four blocks of 128 features and 4 heads (Llama's share 2
keys and values), bytes as tokens. `decoders/text` holds `train.txt`, the phrases of SST-2's train of ten words and
more, and `validation.txt` and `test.txt`, the first and the second half of its dev sentences, a line each.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
from pathlib import Path

import transformers

WORDS = 10
"""Of a phrase of train at least; the shorter ones repeat parts of the longer."""
TOKENS = {"vocab_size": 256, "bos_token_id": 0, "eos_token_id": 0}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}


def sentences(path: Path) -> list[str]:
    """The column `sentence` of a TSV file, packed or not."""
    packed = path.with_name(path.name + ".gz")
    text = path.read_text() if path.exists() else gzip.decompress(packed.read_bytes()).decode()
    rows = csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    return [row["sentence"].strip() for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=Path, required=True, help="folder of train.tsv and dev.tsv")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    llama = transformers.LlamaConfig(
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        **HEADS,
        **TOKENS,
        architectures=["LlamaForCausalLM"],
    )
    gpt2 = transformers.GPT2Config(
        n_embd=128, n_layer=4, n_head=4, n_positions=256, **TOKENS, architectures=["GPT2LMHeadModel"]
    )
    for name, config in {"llama": llama, "gpt2": gpt2}.items():
        config.save_pretrained(args.out / name)
    train = [text for text in sentences(args.sentences / "train.tsv") if len(text.split()) >= WORDS]
    dev = sentences(args.sentences / "dev.tsv")
    parts = {"train": train, "validation": dev[: len(dev) // 2], "test": dev[len(dev) // 2 :]}
    (args.out / "text").mkdir(parents=True, exist_ok=True)
    for name, lines in parts.items():
        (args.out / "text" / f"{name}.txt").write_text("\n".join(lines) + "\n")
        print(f"{name}: {len(lines):,} lines")


if __name__ == "__main__":
    main()
