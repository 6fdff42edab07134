"""Hugging Face Accelerate: ``accelerate launch examples/with_accelerate.py``."""

import torch
from accelerate import Accelerator
from digits import accuracy, load, make_model
from torch.utils.data import DataLoader

import ccloss

accelerator = Accelerator(cpu=not torch.cuda.is_available())
train, test = load()
model, loss = make_model(), ccloss.CCLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
model, optimizer, batches = accelerator.prepare(
    model, optimizer, DataLoader(train, batch_size=32, shuffle=True)
)

for _ in range(3):
    for images, labels in batches:
        optimizer.zero_grad()
        accelerator.backward(loss(model(images), labels))
        optimizer.step()

accelerator.print(f"accuracy {accuracy(accelerator.unwrap_model(model).cpu(), test):.3f}")
