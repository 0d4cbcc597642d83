"""Hugging Face's Trainer: arguments, the model's configuration, logs and checkpoints by TaskloomCallback.

Run it: `python transformers_trainer.py [--lr 0.01] [--steps 4]`; needs transformers, accelerate and torch. The model
is made on the spot, nothing is fetched.
"""

import argparse
import tempfile

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

from taskloom import Task
from taskloom.integrations.transformers import TaskloomCallback


class Sentences(torch.utils.data.Dataset):
    """Eight sentences of four words; whether the first word is an even one is to be learnt."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.tensor([number, 1, 2, 3]), "labels": torch.tensor(number % 2)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--project", default="examples/metrics")
    args = parser.parse_args()
    Task.init(project_name=args.project, task_name="Transformers", reuse_last_task_id=False)

    set_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = BertForSequenceClassification(BertConfig(vocab_size=16, max_position_embeddings=8, **sizes))
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=tempfile.mkdtemp(),
            learning_rate=args.lr,
            max_steps=args.steps,
            logging_steps=1,
            eval_strategy="steps",
            eval_steps=args.steps,
            save_steps=args.steps,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=Sentences(),
        eval_dataset=Sentences(),
        callbacks=[TaskloomCallback()],
    )
    trainer.train()
    print(f"trained {trainer.state.global_step} steps with learning rate {args.lr}")


if __name__ == "__main__":
    main()
