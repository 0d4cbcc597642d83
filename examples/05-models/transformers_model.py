"""transformers: a tiny classifier trained by the Trainer, which keeps one checkpoint, saved and loaded as a folder.

Run it: `python transformers_model.py [--lr 0.01] [--steps 4]`; needs transformers and accelerate. Nothing is
downloaded: the model is made on the spot.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from taskloom import Task


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.mkdtemp()))
    parser.add_argument("--project", default="examples/models")
    args = parser.parse_args()
    Task.init(project_name=args.project, task_name="transformers", output_uri=True, reuse_last_task_id=False)

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=16,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        id2label={0: "even", 1: "odd"},
        label2id={"even": 0, "odd": 1},
    )
    rows = [{"input_ids": torch.tensor([n % 16, 1]), "labels": n % 2} for n in range(32)]
    trainer = Trainer(
        BertForSequenceClassification(config),
        TrainingArguments(
            str(args.folder / "run"),
            max_steps=args.steps,
            learning_rate=args.lr,
            save_steps=2,
            save_total_limit=1,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=rows,
    )
    trainer.train()
    trainer.model.save_pretrained(args.folder / "parity")

    again = BertForSequenceClassification.from_pretrained(args.folder / "parity")
    print(f"{again.config.id2label} after {trainer.state.global_step} steps with learning rate {args.lr}")


if __name__ == "__main__":
    main()
