"""``ccloss losses``."""


def losses() -> None:
    """List the losses with formula, source, required inputs and options."""
    from ccloss.losses import LOSSES, PML_PREFIX, loss_options

    for name, kind in LOSSES.items():
        options = [f"{key} {value}" for key, value in loss_options(name).items()]
        needs = ["unit class weights"] if kind.unit_classifier else []
        needs += sorted(need.replace("_", " ") for need in kind.needs - {"classifier_weight"})
        print(f"{name}\n    {kind.formula}\n    {kind.source}")
        print(f"    needs: {', '.join(needs) or 'logits alone'}")
        print(f"    options: {', '.join(options)}")
    print(f"{PML_PREFIX}NAME\n    CE + weight * a loss of pytorch-metric-learning on the features")
