"""Data-parallel training: ``torchrun --nproc-per-node 2 examples/distributed.py``.

The loss joins the batches of all processes by itself in training mode.
"""

import torch
import torch.distributed as dist
from digits import accuracy, load, make_model
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

import ccloss

dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
train, test = load()
model, loss = DistributedDataParallel(make_model()), ccloss.CCLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
sampler = DistributedSampler(train, seed=0)

for epoch in range(3):
    sampler.set_epoch(epoch)
    for images, labels in DataLoader(train, batch_size=16, sampler=sampler):
        optimizer.zero_grad()
        loss(model(images), labels).backward()
        optimizer.step()

if dist.get_rank() == 0:
    print(f"accuracy {accuracy(model.module, test):.3f}")
dist.destroy_process_group()
