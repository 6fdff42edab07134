"""Mixed precision: autocast and GradScaler. The loss itself is computed in float32."""

import torch
from digits import accuracy, load, make_model
from torch.utils.data import DataLoader

import ccloss

train, test = load()
model, loss = make_model(), ccloss.CCLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
device = "cuda" if torch.cuda.is_available() else "cpu"
model.to(device)
# float16 needs a scaler; bfloat16, which CPUs support, does not.
scaler = torch.amp.GradScaler(device, enabled=device == "cuda")
dtype = torch.float16 if device == "cuda" else torch.bfloat16

for _ in range(2):
    for images, labels in DataLoader(train, batch_size=32, shuffle=True):
        with torch.autocast(device, dtype):
            value = loss(model(images.to(device)), labels.to(device))
        optimizer.zero_grad()
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()

print(f"accuracy {accuracy(model.cpu(), test):.3f}")
