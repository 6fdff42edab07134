"""Gradient accumulation. Each micro-batch has its own ratio; gradients are averaged."""

import torch
from digits import accuracy, load, make_model
from torch.utils.data import DataLoader

import ccloss

MICRO_BATCHES = 2

train, test = load()
model, loss = make_model(), ccloss.CCLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

for _ in range(3):
    for step, (images, labels) in enumerate(DataLoader(train, batch_size=32, shuffle=True), 1):
        (loss(model(images), labels) / MICRO_BATCHES).backward()
        if step % MICRO_BATCHES == 0:
            optimizer.step()
            optimizer.zero_grad()

print(f"accuracy {accuracy(model, test):.3f}")
