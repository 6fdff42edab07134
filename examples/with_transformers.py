"""The Trainer of Hugging Face Transformers, with the loss as ``compute_loss_func``.

The Trainer expects a model whose forward pass returns a dictionary. The loss needs an ``Output``.
"""

import tempfile
from typing import Any

import torch
from digits import accuracy, load, make_model
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

import ccloss


class Network(nn.Module):
    """Returns the fields of ``ccloss.Output`` as a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.model = make_model()

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """(N, 1, 8, 8) images to logits, features and attention."""
        output = self.model(pixel_values)._asdict()
        return {name: value for name, value in output.items() if value is not None}


loss = ccloss.CCLoss()


def compute_loss(
    outputs: dict[str, Tensor], labels: Tensor, num_items_in_batch: Any = None
) -> Tensor:
    """CC-Loss of the outputs of a batch. The mean over a batch needs no number of items."""
    return loss(ccloss.Output(**outputs), labels)


def collate(samples: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """A batch by argument name."""
    images, labels = zip(*samples, strict=True)
    return {"pixel_values": torch.stack(images), "labels": torch.stack(labels)}


train, test = load()
network = Network()
with tempfile.TemporaryDirectory() as folder:
    trainer = Trainer(
        network,
        TrainingArguments(
            output_dir=folder,
            num_train_epochs=3,
            per_device_train_batch_size=32,
            learning_rate=3e-3,
            label_names=["labels"],
            remove_unused_columns=False,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        ),
        data_collator=collate,
        train_dataset=train,
        compute_loss_func=compute_loss,
    )
    trainer.train()
print(f"accuracy {accuracy(network.model.cpu(), test):.3f}")
