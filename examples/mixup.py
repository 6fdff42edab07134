"""Mixup of timm. Mixed labels are rows of probabilities, which every term of the loss accepts."""

import torch
from digits import accuracy, load, make_model
from timm.data import Mixup
from torch.utils.data import DataLoader

import ccloss

train, test = load()
model, loss = make_model(), ccloss.CCLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
mixup = Mixup(mixup_alpha=0.2, num_classes=10, label_smoothing=0.0)

for _ in range(3):
    for images, labels in DataLoader(train, batch_size=32, shuffle=True, drop_last=True):
        images, targets = mixup(images, labels)  # targets: (32, 10)
        optimizer.zero_grad()
        loss(model(images), targets).backward()
        optimizer.step()

print(f"accuracy {accuracy(model, test):.3f}")
