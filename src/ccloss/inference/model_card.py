"""The model card of an exported model."""

from ccloss.training.records import Record

_METRICS = {"accuracy": "Top-1 accuracy (%)", "top5": "Top-5 accuracy (%)", "nll": "Mean NLL"}


def model_card(record: Record, name: str) -> str:
    """The card in Markdown, with the metadata that the Hugging Face Hub reads.

    Args:
        record: of the run.
        name: of the repository or folder.
    """
    experiment, evaluation, provenance = record.experiment, record.evaluation, record.provenance
    data = str(experiment["data"]).rpartition("/")[2]
    rows = [
        f"| {title} | {evaluation[name]:.4g} |"
        for name, title in _METRICS.items()
        if evaluation.get(name) is not None
    ]
    origin = {
        "loss": f"{record.method}",
        "backbone": f"{experiment['backbone']}",
        "data": f"{data}",
        "images SHA-256": (provenance.get("data") or {}).get("train"),
        "epochs": f"{experiment['epochs']} ({record.steps:,} steps)",
        "seed": experiment["seed"],
        "precision": experiment["precision"],
        "ccloss": (provenance.get("versions") or {}).get("ccloss"),
        "torch": (provenance.get("versions") or {}).get("torch"),
        "commit": provenance.get("commit"),
        "device": provenance.get("device"),
    }
    facts = [f"| {name} | `{value}` |" for name, value in origin.items() if value is not None]
    side, channels = experiment["image_size"], experiment["channels"]
    lines = [
        "---",
        "library_name: ccloss",
        "pipeline_tag: image-classification",
        "tags: [image-classification, cc-loss]",
        "---",
        "",
        f"# {record.method} on {data}",
        "",
        f"An image classifier with {len(record.classes)} classes, trained with "
        f"ccloss. It takes images of {side} x {side} pixels "
        f"with {channels} channel{'s' if channels > 1 else ''}.",
        "",
        "```python",
        "import ccloss",
        "",
        f'model = ccloss.load("{name}")',
        'predictions = model.predict(["image.png"])',
        "```",
        "",
        "## Evaluation",
        "",
        f"On the {evaluation.get('images')} images of the {evaluation.get('split')} split, after "
        "the last epoch.",
        "",
        "| metric | value |",
        "| --- | --- |",
        *rows,
        "",
        "## Training",
        "",
        "| | |",
        "| --- | --- |",
        *facts,
        "",
        "`config.json` has every setting of the run, the class names in the order of the logits, "
        "and the preprocessing.",
    ]
    return "\n".join(lines) + "\n"
