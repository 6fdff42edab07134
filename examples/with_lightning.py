"""A Lightning module that logs every term of the loss."""

import tempfile

import lightning
import torch
from digits import accuracy, load, make_model
from torch import Tensor
from torch.utils.data import DataLoader

import ccloss


class Module(lightning.LightningModule):
    """The network and its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.loss = make_model(), ccloss.CCLoss()

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Return the loss of a batch."""
        images, labels = batch
        terms = self.loss.terms(self.model(images), labels)
        self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()})
        return terms["total"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


train, test = load()
module = Module()
trainer = lightning.Trainer(
    accelerator="auto" if torch.cuda.is_available() else "cpu",
    max_epochs=3,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    default_root_dir=tempfile.gettempdir(),
)
trainer.fit(module, DataLoader(train, batch_size=32, shuffle=True))
print(f"accuracy {accuracy(module.model.cpu(), test):.3f}")
